package nsqtofile

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestStrftime(t *testing.T) {
	when := time.Date(2026, 11, 2, 15, 4, 5, 0, time.FixedZone("CET", 3600))
	for format, want := range map[string]string{
		"%Y-%m-%d_%H": "2026-11-02_15",
		"%a %A %b %B %d %H %I %m %M %p %S %y %Y %z %Z %%": "Mon Monday Nov November 02 15 03 11 04 PM 05 26 2026 +0100 CET %",
		"%Y_v1": "2026_v1",
		"1 2 3 4 5 6 01 15 Jan Mon MST 2006 -07 PM": "1 2 3 4 5 6 01 15 Jan Mon MST 2006 -07 PM",
		"%q%":       "%q%",
		"%%Y":       "%Y",
		"":          "",
		"é%d":       "é02",
		"%e-%j %é-": "%e-%j %é-",
	} {
		if got := strftime(format, when); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(hostname, ".")
	when := time.Date(2024, 5, 1, 13, 0, 0, 0, time.Local)
	for _, tt := range []struct {
		set  func(*Options)
		want string // revision 3
	}{
		{func(o *Options) {}, "clicks." + short + ".2024-05-01_13.log"},
		{func(o *Options) { o.Gzip = true }, "clicks." + short + "-000003.2024-05-01_13.log.gz"},
		{func(o *Options) { o.Compression = Zstd }, "clicks." + short + "-000003.2024-05-01_13.log.zst"},
		{func(o *Options) { o.Gzip, o.FilenameFormat = true, "<TOPIC><REV>.gz" }, "clicks-000003.gz"},
		{func(o *Options) { o.WorkDir, o.FilenameFormat = "/w", "<TOPIC>/<DATETIME><REV>" }, "clicks/2024-05-01_13-000003"},
		{func(o *Options) { o.WorkDir = "/tmp/" }, "clicks." + short + ".2024-05-01_13.log"},
		{func(o *Options) { o.RotateSize, o.FilenameFormat = 1, "<TOPIC><TOPIC><REV><REV>" }, "clicksclicks-000003-000003"},
		{func(o *Options) { o.RotateInterval, o.FilenameFormat = 1, "x<REV>.<DATETIME>.<DATETIME>" }, "x-000003.2024-05-01_13.2024-05-01_13"},
		{func(o *Options) { o.FilenameFormat = "<PID>" }, strconv.Itoa(os.Getpid())},
		{func(o *Options) { o.FilenameFormat, o.HostIdentifier = "<HOST>", "a.<SHORT_HOST>.<HOSTNAME>" }, "a." + short + "." + hostname},
		{func(o *Options) { o.FilenameFormat, o.DatetimeFormat = "<DATETIME>", "%Y/%m" }, "2024/05"},
	} {
		o := NewOptions()
		tt.set(o)
		n, err := o.newName("clicks")
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		got := revision(n.at(when), 3)
		if got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
		named, rev, ok := unrevise(n.pattern(), got)
		if wantRev := map[bool]int{true: 3}[n.revised]; !ok || named != n.at(when) || rev != wantRev {
			t.Errorf("%s is read as %s, revision %d, %t", got, named, rev, ok)
		}
	}
	for _, set := range []func(*Options){
		func(o *Options) { o.Gzip = true }, func(o *Options) { o.RotateSize = 1 },
		func(o *Options) { o.RotateInterval = 1 }, func(o *Options) { o.WorkDir = "/w" },
	} {
		o := NewOptions()
		o.FilenameFormat = "<TOPIC>"
		set(o)
		if _, err := o.newName("t"); err != errNoRevision {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestPatternMatchesNothingElse(t *testing.T) {
	o := NewOptions()
	o.Gzip, o.FilenameFormat = true, "<TOPIC>.h<REV>.<DATETIME>.log"
	n, err := o.newName("a+b")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"a+b.h-000000.2024-05-01_13.log.gz": true, "a+b.h-1000000.x.log.gz": true,
		"aab.h-000000.x.log.gz": false, "a+b.h-00000.x.log.gz": false, "a+b.h-000000.x.log": false,
		"xa+b.h-000000.x.log.gz": false, "a+b.h-000000.x.log.gz.9.tmp": false, "a+bxh-000000.x.log.gz": false,
	} {
		if got := n.pattern().MatchString(text); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
