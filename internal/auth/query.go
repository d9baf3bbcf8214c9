package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxAnswer bounds the answer of an auth server, in bytes: enough for tens of
// thousands of authorizations.
const maxAnswer = 4 << 20

// askServer asks one server. An http server that wants https says on which port,
// as nsqd does. Source: nsqd HTTP API, "Auth server contract".
func (c *Client) askServer(ctx context.Context, endpoint string, who Credentials) (*Grant, error) {
	grant, err := c.query(ctx, endpoint, who)
	var https *httpsRequired
	if errors.As(err, &https) {
		grant, err = c.query(ctx, https.endpoint, who)
	}
	if err == nil {
		return grant, nil
	}
	// The URL that a [url.Error] shows has the secret in it.
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err
	}
	return nil, fmt.Errorf("ask auth server %s: %w", printable(endpoint), err)
}

// printable is an endpoint without what may be confidential.
func printable(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "with an invalid URL"
	}
	u.RawQuery = ""
	return u.Redacted()
}

// httpsRequired is returned by query where the server refuses plain HTTP.
type httpsRequired struct {
	endpoint string // where to ask instead
}

func (e *httpsRequired) Error() string { return "the server requires https" }

func (c *Client) query(ctx context.Context, endpoint string, who Credentials) (*Grant, error) {
	req, err := c.request(ctx, endpoint, who)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("answer exceeds %d bytes", maxAnswer)
	}
	if resp.StatusCode == http.StatusForbidden && req.URL.Scheme == "http" {
		if err := redirection(endpoint, body); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got response %s", resp.Status)
	}
	return parseGrant(body, time.Now())
}

// request puts the question. The parameters of get are appended to whatever the
// endpoint is, after a "?"; those of post are an object of lists.
func (c *Client) request(ctx context.Context, endpoint string, who Credentials) (*http.Request, error) {
	params := url.Values{
		"common_name": {who.CommonName},
		"remote_ip":   {who.RemoteIP},
		"secret":      {who.Secret},
		"tls":         {strconv.FormatBool(who.TLS)},
	}
	method, body := http.MethodGet, []byte(nil)
	if c.post {
		var err error
		if body, err = json.Marshal(params); err != nil {
			return nil, fmt.Errorf("encode question: %w", err)
		}
		method = http.MethodPost
	} else {
		endpoint += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.nsq; version=1.0")
	if c.post {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// redirection returns [httpsRequired] if body, of an answer 403 to a question over
// http, names an https port.
func redirection(endpoint string, body []byte) error {
	var refusal struct {
		HTTPSPort int `json:"https_port"`
	}
	if json.Unmarshal(body, &refusal) != nil || refusal.HTTPSPort <= 0 {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	u.Scheme = "https"
	u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(refusal.HTTPSPort))
	return &httpsRequired{endpoint: u.String()}
}

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

// followWithoutSecret keeps the URL of a question, which has the secret in it,
// from being told to the server that a redirect leads to.
func followWithoutSecret(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	req.Header.Del("Referer")
	return nil
}
