package diskqueue

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The file system of the machine's temporary files is synced, or is one of those
// that are not.
func TestVolume(t *testing.T) {
	dir := t.TempDir()
	v, err := openVolume(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not a file system that is synced as a whole")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) { // much is dirty at the moment
		t.Error(err)
	}
	if _, err := openVolume(filepath.Join(dir, "missing")); err == nil {
		t.Error("opened a directory that is missing")
	}
	if _, err := openVolume("/proc"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("/proc: got %v", err)
	}
}

func TestIsFrom5_8(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.8": true, "5.15.167.4-microsoft-standard-WSL2": true, "6.1.0-13-amd64": true, "10.0.1": true,
		"5.7.19": false, "4.18.0-553.el8_10.x86_64": false, "": false, "six": false, "6": false,
	} {
		if got := isFrom5_8(release); got != want {
			t.Errorf("%q: got %v", release, got)
		}
	}
}

func TestDirtyBytes(t *testing.T) {
	for info, want := range map[string]int64{
		"MemTotal: 1 kB\nDirty:               612 kB\nWriteback:            92 kB\nWritebackTmp:  7 kB\n": 704 << 10,
		"MemTotal: 1 kB\nDirty: 612 kB\n":                 -1,
		"MemTotal: 1 kB\nDirty: x kB\nWriteback: 92 kB\n": -1,
		"MemTotal: 1 kB\nDirty: 612\nWriteback: 92\n":     -1,
		"": -1,
	} {
		got, ok := dirtyBytes([]byte(info))
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: got %d, %v", info, got, ok)
		}
	}
}
