// Renders templates with Go's own text/template: one JSON object with "template" and "data" per line
// of standard input, the same object with "out", or with "error": true, per line of standard output.
//
// Only scripts/go_vectors.py runs this; the tests read what it has written.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type vector struct {
	Template string          `json:"template"`
	Data     json.RawMessage `json:"data"`
	Out      *string         `json:"out,omitempty"`
	Error    bool            `json:"error,omitempty"`
}

// Numbers without a fraction are ints, as in the templates' own literals.
func native(value any) any {
	switch v := value.(type) {
	case json.Number:
		if whole, err := v.Int64(); err == nil && !strings.ContainsAny(string(v), ".eE") {
			return int(whole)
		}
		float, _ := v.Float64()
		return float
	case map[string]any:
		for key := range v {
			v[key] = native(v[key])
		}
	case []any:
		for i := range v {
			v[i] = native(v[i])
		}
	}
	return value
}

func render(v vector) (string, error) {
	parsed, err := template.New("").Option("missingkey=zero").Funcs(template.FuncMap{
		"json": func(value any) string { text, _ := json.Marshal(value); return string(text) },
	}).Parse(v.Template)
	if err != nil {
		return "", err
	}
	decoder := json.NewDecoder(bytes.NewReader(v.Data))
	decoder.UseNumber()
	var data any
	if err := decoder.Decode(&data); err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, native(data))
	return out.String(), err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			panic(err)
		}
		out, err := render(v)
		v.Out, v.Error = &out, err != nil
		if v.Error {
			v.Out = nil
		}
		if err := encoder.Encode(v); err != nil {
			panic(err)
		}
	}
}
