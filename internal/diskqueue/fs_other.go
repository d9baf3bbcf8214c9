//go:build !linux

package diskqueue

import (
	"errors"
	"os"
)

func syncFile(f *os.File) error { return f.Sync() }

func openVolume(string) (Volume, error) { return nil, errors.ErrUnsupported }
