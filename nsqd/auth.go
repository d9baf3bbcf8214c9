package nsqd

import (
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/nsq-suite/nsq/internal/auth"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// authority is who a client said it is, for the time when what it was granted
// expires, and what is known of the grant. Only the IOLoop uses it.
type authority struct {
	credentials auth.Credentials

	// publishes are the topics that grant is known to let it publish to, so that
	// a message costs a look here and no regular expression.
	publishes map[string]struct{}
	grant     *auth.Grant
}

// authResponse answers AUTH.
type authResponse struct {
	Identity    string `json:"identity"`
	IdentityURL string `json:"identity_url"`
	Permissions int    `json:"permission_count"` // authorizations
}

// authenticate executes AUTH. Source: TCP protocol spec, AUTH.
func (c *conn) authenticate(params [][]byte) error {
	if c.state.Load() != stateInit {
		return fatalError(protocol.CodeInvalid, "cannot AUTH in current state", nil)
	}
	if len(params) != 1 {
		return fatalError(protocol.CodeInvalid, "AUTH invalid number of parameters", nil)
	}
	secret, err := c.readJSONBody("AUTH")
	if err != nil {
		return err
	}
	if c.grant.Load() != nil {
		return fatalError(protocol.CodeInvalid, "AUTH already set", nil)
	}
	if c.svc.auth == nil {
		return fatalError(protocol.CodeAuthDisabled, "AUTH disabled", nil)
	}
	c.authority.credentials = c.credentials(string(secret))
	grant, err := c.svc.auth.Ask(c.svc.life, c.authority.credentials)
	if err != nil {
		return c.authFailed(err)
	}
	if grant.Len() == 0 {
		return fatalError(protocol.CodeUnauthorized, "AUTH no authorizations found", nil)
	}
	resp, err := json.Marshal(authResponse{grant.Identity, grant.IdentityURL, grant.Len()})
	if err == nil {
		c.grant.Store(grant)
		err = c.out.answer(protocol.FrameResponse, string(resp))
	}
	if err != nil {
		return fatalError(protocol.CodeAuthError, fmt.Sprintf("AUTH error %s", err), err)
	}
	return nil
}

// credentials are what an auth server is told of this client.
func (c *conn) credentials(secret string) auth.Credentials {
	who := auth.Credentials{Secret: secret}
	if host, _, err := net.SplitHostPort(c.addr); err == nil { // else a Unix socket
		who.RemoteIP = host
	}
	if layer := c.layers.Load().tls; layer != nil {
		who.TLS, who.CommonName = true, layer.commonName
	}
	return who
}

// authFailed is the answer when no auth server gave a usable one. The client is
// not told why.
func (c *conn) authFailed(err error) error {
	c.log.Error("ask auth servers", "client", c.addr, "err", err)
	return fatalError(protocol.CodeAuthFailed, "AUTH failed", err)
}

// mayPublish checks that the client may publish to the topic of the run, which
// begins with this command.
func (c *conn) mayPublish(command string) error {
	if c.svc.auth == nil {
		return nil
	}
	a := &c.authority
	topic := c.run.name
	if _, known := a.publishes[topic]; known && a.grant.Valid(time.Now()) {
		return nil
	}
	if err := c.authorize(command, topic, ""); err != nil {
		return err
	}
	if grant := c.grant.Load(); a.grant != grant {
		a.grant, a.publishes = grant, make(map[string]struct{})
	}
	a.publishes[topic] = struct{}{}
	return nil
}

// authorize checks that the client may subscribe to a channel or, with channel
// "", publish to a topic. It asks the auth servers again if what they granted has
// expired. Source: TCP protocol spec, AUTH.
func (c *conn) authorize(command, topic, channel string) error {
	if c.svc.auth == nil {
		return nil
	}
	grant := c.grant.Load()
	if grant == nil {
		return fatalError(protocol.CodeAuthFirst, "AUTH required before "+command, nil)
	}
	if !grant.Valid(time.Now()) {
		// It may take seconds: nobody waits meanwhile for what was said before.
		if err := c.out.flushAnswers(); err != nil {
			return err
		}
		var err error
		if grant, err = c.svc.auth.Renew(c.svc.life, c.authority.credentials); err != nil {
			return c.authFailed(err)
		}
		c.grant.Store(grant)
	}
	if !grant.Allows(topic, channel) {
		return fatalError(protocol.CodeUnauthorized, fmt.Sprintf("AUTH failed for %s on %q %q", command, topic, channel), nil)
	}
	return nil
}
