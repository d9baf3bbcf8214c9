package nsqd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nsq-suite/nsq/internal/config"
)

// Reload takes over the live options of opts, and reads the files again that hold
// certificate, key, CAs, tokens and passwords; new connections and requests see
// them. Unless all of it is valid nothing changes. What is not live takes effect at the next start, as a warning
// says.
func (n *NSQD) Reload(opts *Options) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	own := *n.options()
	config.TakeLive(&own, opts)
	if err := own.check(); err != nil {
		return err
	}
	serverTLS, err := own.serverTLS()
	if err != nil {
		return fmt.Errorf("failed to build TLS config - %w", err)
	}
	rules, err := own.adminRules()
	if err != nil {
		return err
	}
	if _, fixed := config.Changed(&n.configured, opts); len(fixed) > 0 {
		n.log.Warn("these options take effect at the next start", "options", strings.Join(fixed, ","))
	}
	n.serverTLS.Store(serverTLS)
	n.guard.Use(rules)
	n.enforceLocked(&own)
	return nil
}

// change puts in force what edit makes of the options, if all of them are valid
// then, and returns them.
func (n *NSQD) change(edit func(*Options) error) (*Options, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	own := *n.options()
	if err := edit(&own); err != nil {
		return nil, err
	}
	if err := own.check(); err != nil {
		return nil, err
	}
	n.enforceLocked(&own)
	return &own, nil
}

// check returns the first option that is out of range, those of TLS apart.
func (o *Options) check() error { return errors.Join(o.validate(), o.validateRest()) }

// enforceLocked makes own the options. Whoever reads options takes the pointer once
// and has values that belong together.
func (n *NSQD) enforceLocked(own *Options) {
	n.opts.Store(own)
	if own.Level != nil {
		own.Level.Set(own.LogLevel.Level())
	}
	n.lookup.setAddresses(own.NSQLookupdTCPAddresses)
}
