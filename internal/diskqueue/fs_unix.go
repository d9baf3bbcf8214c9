//go:build !windows

package diskqueue

import (
	"errors"
	"os"
)

// channelSeparator stands between topic and channel in file names.
const channelSeparator = ':'

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
