package diskqueue

// channelSeparator stands between topic and channel in file names; ':' is not
// allowed in them here.
const channelSeparator = ';'

// syncDir does nothing: a directory cannot be flushed on Windows.
func syncDir(string) error { return nil }

// openFileLimit is how many files the process may have open: there is no limit
// to speak of.
func openFileLimit() int { return 1 << 20 }
