package version_test

import (
	"regexp"
	"testing"

	"github.com/nsq-suite/nsq/internal/version"
)

func TestString(t *testing.T) {
	got := version.String("nsqlookupd")
	if !regexp.MustCompile(`^nsqlookupd v1\.3\.0 \(built w/go1\.\d+.*\)$`).MatchString(got) {
		t.Errorf("version line = %q", got)
	}
}
