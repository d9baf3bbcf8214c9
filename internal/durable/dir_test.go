package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nsq-suite/nsq/internal/durable"
)

func TestMkdirAll(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"a/b/c", "a/b/c/", "./d", ".", "a/../e", filepath.Join(t.TempDir(), "f", "g")} {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"file", "file/a"} {
		if err := durable.MkdirAll(dir, 0o700); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := durable.SyncDir("none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
