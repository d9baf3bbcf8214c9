package auth

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
)

// A Grant is what an auth server lets a client do, for a while. It never changes;
// its methods may overlap.
type Grant struct {
	Identity, IdentityURL string // as the server sent them; may be ""

	expires        time.Time
	authorizations []authorization
}

// An authorization allows what it permits for every topic and channel whose
// names it matches.
type authorization struct {
	topic              *regexp.Regexp
	channels           []*regexp.Regexp
	subscribe, publish bool
}

// Valid reports whether the grant has not expired at that time.
func (g *Grant) Valid(now time.Time) bool { return now.Before(g.expires) }

// Len is how many authorizations there are.
func (g *Grant) Len() int { return len(g.authorizations) }

// Allows reports whether the client may subscribe to a channel of a topic or,
// with channel "", publish to the topic. The regular expressions are not
// anchored; for publishing one of a channel must match "". It does not look at the
// time. Source: nsqd behaviour, "Auth".
func (g *Grant) Allows(topic, channel string) bool {
	return slices.ContainsFunc(g.authorizations, func(a authorization) bool {
		permitted := a.publish
		if channel != "" {
			permitted = a.subscribe
		}
		return permitted && a.topic.MatchString(topic) &&
			slices.ContainsFunc(a.channels, func(r *regexp.Regexp) bool { return r.MatchString(channel) })
	})
}

// answer is what an auth server sends.
type answer struct {
	TTL            int64  `json:"ttl"` // seconds
	Identity       string `json:"identity"`
	IdentityURL    string `json:"identity_url"`
	Authorizations []struct {
		Topic       string   `json:"topic"`
		Channels    []string `json:"channels"`
		Permissions []string `json:"permissions"`
	} `json:"authorizations"`
}

// parseGrant checks an answer that came at the given time. One bad entry refuses
// all of it.
func parseGrant(body []byte, now time.Time) (*Grant, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if a.TTL <= 0 {
		return nil, fmt.Errorf("ttl is %d, must be above 0", a.TTL)
	}
	ttl := time.Duration(min(a.TTL, math.MaxInt64/int64(time.Second))) * time.Second
	g := &Grant{
		Identity:       a.Identity,
		IdentityURL:    a.IdentityURL,
		expires:        now.Add(ttl),
		authorizations: make([]authorization, len(a.Authorizations)),
	}
	for i, from := range a.Authorizations {
		to := &g.authorizations[i]
		for _, p := range from.Permissions {
			switch p {
			case "subscribe":
				to.subscribe = true
			case "publish":
				to.publish = true
			default:
				return nil, fmt.Errorf("permission %q is unknown", p)
			}
		}
		var err error
		if to.topic, err = regexp.Compile(from.Topic); err != nil {
			return nil, fmt.Errorf("compile topic %q: %w", from.Topic, err)
		}
		for _, channel := range from.Channels {
			r, err := regexp.Compile(channel)
			if err != nil {
				return nil, fmt.Errorf("compile channel %q: %w", channel, err)
			}
			to.channels = append(to.channels, r)
		}
	}
	return g, nil
}
