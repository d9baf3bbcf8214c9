package nsqtonsq

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
)

// A Filter chooses messages and fields of messages that are JSON objects.
type Filter struct {
	RequireField string   `flag:"require-json-field" group:"Filter" usage:"publish only JSON objects that have this field"`
	RequireValue string   `flag:"require-json-value" group:"Filter" usage:"publish only those where the field of --require-json-field has this value"`
	Whitelist    []string `flag:"whitelist-json-field" cfg:"whitelist_json_fields" group:"Filter" usage:"publish only this field of JSON objects (may be given several times)"`
}

// What apply says of messages that are dropped for a reason to be logged.
var (
	errNotJSON      = errors.New("unable to decode json")
	errMissingField = errors.New("missing field to check required value")
)

// apply returns what to publish of a message, or false for a message to drop. The
// whitelisted fields stay in their order, and their values as they are, byte for
// byte.
func (f *Filter) apply(body []byte) (publish []byte, ok bool, err error) {
	if f.RequireField == "" && len(f.Whitelist) == 0 {
		return body, true, nil
	}
	fields, err := parseObject(body)
	if err != nil {
		return nil, false, errNotJSON
	}
	if f.RequireField != "" {
		i := slices.IndexFunc(fields, func(g field) bool { return g.name == f.RequireField })
		switch {
		case i < 0 && f.RequireValue != "":
			return nil, false, errMissingField
		case i < 0 || f.RequireValue != "" && !hasValue(fields[i].value, f.RequireValue):
			return nil, false, nil
		}
	}
	if len(f.Whitelist) == 0 {
		return body, true, nil
	}
	publish = []byte{'{'}
	for _, g := range fields {
		if !slices.Contains(f.Whitelist, g.name) {
			continue
		}
		if len(publish) > 1 {
			publish = append(publish, ',')
		}
		publish = appendString(publish, g.name)
		publish = append(append(publish, ':'), g.value...)
	}
	return append(publish, '}'), true, nil
}

// A field is one of a JSON object; value is its text there.
type field struct {
	name  string
	value json.RawMessage
}

var errNotObject = errors.New("not a JSON object")

// parseObject reads a JSON object, or null, which is taken for an empty one. Of
// fields with the same name the last one counts.
func parseObject(body []byte) ([]field, error) {
	if string(bytes.TrimSpace(body)) == "null" {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotObject
	}
	var fields []field
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errNotObject
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		fields = slices.DeleteFunc(fields, func(f field) bool { return f.name == name })
		fields = append(fields, field{name, value})
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return fields, nil
}

// hasValue compares a value with the text of a flag: a string with the text itself,
// a number with the number that the text is.
func hasValue(value json.RawMessage, want string) bool {
	var text string
	if len(value) > 0 && value[0] == '"' {
		return json.Unmarshal(value, &text) == nil && text == want
	}
	number, err := strconv.ParseFloat(want, 64)
	if err != nil {
		return false
	}
	var got *float64 // nil for null
	return json.Unmarshal(value, &got) == nil && got != nil && *got == number
}

// appendString appends the JSON form of a string, without escapes for HTML.
func appendString(b []byte, text string) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string can be encoded, to memory
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})...)
}
