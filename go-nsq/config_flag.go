package nsq

import "strings"

// ConfigFlag makes a Config a flag.Value, for a command line flag that is
// given once per option: -consumer-opt=max_in_flight,100.
type ConfigFlag struct {
	Config *Config
}

// Set takes "option,value", split at the first comma, or "option" alone, which
// means true.
func (c *ConfigFlag) Set(opt string) (err error) {
	option, value, found := strings.Cut(opt, ",")
	if !found {
		return c.Config.Set(option, true)
	}
	return c.Config.Set(option, value)
}

// String is always empty: a flag has no sensible form of a whole Config.
func (c *ConfigFlag) String() string {
	return ""
}
