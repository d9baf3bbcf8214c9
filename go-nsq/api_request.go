package nsq

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// maxAPIResponse is the largest answer of nsqlookupd we read, in bytes.
const maxAPIResponse = 64 << 20

// statusError says that an API request was answered with a status other than 200.
type statusError struct {
	code   int
	status string // code and text
	body   []byte
}

func (e *statusError) Error() string {
	return fmt.Sprintf("got response %s %q", e.status, e.body)
}

// apiEnvelope is how old daemons wrap their answers.
type apiEnvelope struct {
	Data json.RawMessage `json:"data"`
}

// apiRequestNegotiateV1 gets the JSON object at endpoint into v, asking for the
// form without envelope but accepting both. A status other than 200 is a
// *statusError.
func apiRequestNegotiateV1(ctx context.Context, client *http.Client, endpoint string, header http.Header, v interface{}) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("Accept", "application/vnd.nsq; version=1.0")

	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAPIResponse))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{code: resp.StatusCode, status: resp.Status, body: body}
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if resp.Header.Get("X-NSQ-Content-Type") == "nsq; version=1.0" {
		return json.Unmarshal(body, v)
	}
	var envelope apiEnvelope
	if err := json.Unmarshal(body, &envelope); err != nil {
		return err
	}
	if len(envelope.Data) == 0 {
		return nil
	}
	return json.Unmarshal(envelope.Data, v)
}
