package nsqtonsq

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestFilter(t *testing.T) {
	const drop = "dropped"
	for _, tt := range []struct {
		filter Filter
		body   string
		want   string
		err    error
	}{
		{Filter{}, `not json`, `not json`, nil},
		{Filter{RequireValue: "x"}, `not json`, `not json`, nil},

		{Filter{RequireField: "a"}, `{"a":null, "b":1}`, `{"a":null, "b":1}`, nil},
		{Filter{RequireField: "a"}, `{"b":{"a":1}}`, drop, nil},
		{Filter{RequireField: "a"}, `null`, drop, nil},
		{Filter{RequireField: "a"}, `["a"]`, drop, errNotJSON},
		{Filter{RequireField: "a"}, `"a"`, drop, errNotJSON},
		{Filter{RequireField: "a"}, `1`, drop, errNotJSON},
		{Filter{RequireField: "a"}, `{"a":1`, drop, errNotJSON},
		{Filter{RequireField: "a"}, `{"a":1} x`, drop, errNotJSON},
		{Filter{RequireField: "a"}, `{"a":1}{}`, drop, errNotJSON},
		{Filter{RequireField: "a"}, ``, drop, errNotJSON},

		{Filter{RequireField: "a", RequireValue: "x"}, `{"b":1}`, drop, errMissingField},
		{Filter{RequireField: "a", RequireValue: "x"}, `null`, drop, errMissingField},
		{Filter{RequireField: "a", RequireValue: "x"}, `{"a":"x"}`, `{"a":"x"}`, nil},
		{Filter{RequireField: "a", RequireValue: "x"}, `{"a":"\u0078"}`, `{"a":"\u0078"}`, nil},
		{Filter{RequireField: "a", RequireValue: "x"}, `{"a":"X"}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "x"}, `{"a":1}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "1.50"}, `{"a":1.5}`, `{"a":1.5}`, nil},
		{Filter{RequireField: "a", RequireValue: "1e1"}, `{"a": 10}`, `{"a": 10}`, nil},
		{Filter{RequireField: "a", RequireValue: "1.5"}, `{"a":"1.50"}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "0"}, `{"a":null}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "1"}, `{"a":true}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "true"}, `{"a":true}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "1"}, `{"a":[1]}`, drop, nil},
		{Filter{RequireField: "a", RequireValue: "1"}, `{"a":2,"a":1}`, `{"a":2,"a":1}`, nil},

		{Filter{Whitelist: []string{"a", "c"}}, `{"c":1, "b":2, "a":{"d": [1, 2]}}`, `{"c":1,"a":{"d": [1, 2]}}`, nil},
		{Filter{Whitelist: []string{"z"}}, `{"a":1}`, `{}`, nil},
		{Filter{Whitelist: []string{"z"}}, `null`, `{}`, nil},
		{Filter{Whitelist: []string{"z"}}, `x`, drop, errNotJSON},
		{Filter{Whitelist: []string{"a"}}, `{"a":9007199254740993}`, `{"a":9007199254740993}`, nil},
		{Filter{Whitelist: []string{"a"}}, `{"a":1e18}`, `{"a":1e18}`, nil},
		{Filter{Whitelist: []string{"a"}}, `{"a":"<&>\u003c"}`, `{"a":"<&>\u003c"}`, nil},
		{Filter{Whitelist: []string{"<\n"}}, `{"<\n":1}`, `{"<\n":1}`, nil},
		{Filter{Whitelist: []string{"a"}}, `{"a":1,"b":2,"a":3}`, `{"a":3}`, nil},
		{Filter{RequireField: "a", Whitelist: []string{"b"}}, `{"a":1,"b":2}`, `{"b":2}`, nil},
	} {
		got, ok, err := tt.filter.apply([]byte(tt.body))
		if !ok {
			got = []byte(drop)
		}
		if string(got) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%+v of %s: %s, %v; want %s, %v", tt.filter, tt.body, got, err, tt.want, tt.err)
		}
	}
}

// What is published is JSON that has the whitelisted fields and no others, each as it
// was; whether a body is an object does not depend on who reads it.
func FuzzFilter(f *testing.F) {
	for _, body := range []string{`{"a":1,"b":[{}]}`, `null`, `{"a":"\u00e9"}`, `{"a":1,"a":2}`, ` {"a" : 1.0 } `, `[`, `{"a":tru}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		filter := Filter{Whitelist: []string{"a", ""}}
		got, ok, err := filter.apply(body)
		var whole map[string]json.RawMessage
		if wholeErr := json.Unmarshal(body, &whole); (wholeErr == nil) != ok || ok != (err == nil) {
			t.Fatalf("%q: %t, %v; encoding/json says %v", body, ok, err, wholeErr)
		}
		if !ok {
			return
		}
		var part map[string]json.RawMessage
		if err := json.Unmarshal(got, &part); err != nil {
			t.Fatalf("%q: %s: %v", body, got, err)
		}
		for name, value := range part {
			if string(whole[name]) != string(value) {
				t.Errorf("%q: field %q is %s, was %s", body, name, value, whole[name])
			}
		}
		for _, name := range filter.Whitelist {
			if _, ok := whole[name]; ok != (part[name] != nil) {
				t.Errorf("%q: field %q: %t in, %s", body, name, ok, got)
			}
		}
	})
}
