package protocol

import "strings"

// MaxNameLength is the longest topic or channel name in bytes, its suffix
// included.
const MaxNameLength = 64

const ephemeralSuffix = "#ephemeral"

// IsValidTopicName reports whether name may name a topic: 1 to
// [MaxNameLength] bytes of letters, digits, '.', '_' and '-', optionally followed
// by "#ephemeral". Source: TCP protocol spec, "Topic and channel names".
func IsValidTopicName[S ~string | ~[]byte](name S) bool { return isValidName(name) }

// IsValidChannelName reports whether name may name a channel. The rule is that
// of [IsValidTopicName].
func IsValidChannelName[S ~string | ~[]byte](name S) bool { return isValidName(name) }

// IsEphemeral reports whether name is that of a topic or channel that is never
// stored and disappears with its last user.
func IsEphemeral(name string) bool { return strings.HasSuffix(name, ephemeralSuffix) }

func isValidName[S ~string | ~[]byte](name S) bool {
	if len(name) == 0 || len(name) > MaxNameLength {
		return false
	}
	for i := range len(name) {
		if !isNameByte[name[i]] {
			return i > 0 && string(name[i:]) == ephemeralSuffix
		}
	}
	return true
}

var isNameByte = func() (ok [256]bool) {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	for i := range len(allowed) {
		ok[allowed[i]] = true
	}
	return ok
}()
