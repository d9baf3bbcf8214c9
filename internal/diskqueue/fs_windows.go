package diskqueue

// channelSeparator stands between topic and channel in file names; ':' is not
// allowed in them here.
const channelSeparator = ';'

// openFileLimit is how many files the process may have open: there is no limit
// to speak of.
func openFileLimit() int { return 1 << 20 }
