package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// hidden stands in place of each text that may be secret.
const hidden = "redacted"

// Redact returns a configuration file for the eyes of others: only settings that gw knows, with
// values that look like what they must be, such as addresses, names and times. Everything else is
// replaced: the commands of a pair, unknown settings, values in the wrong place. Comments are left
// out, since keys and passwords are parked there. What remains stands on its old line, so that
// positions in other output still fit.
//
// It also returns the texts that it replaced, as they may occur elsewhere, such as in a log. It
// fails for a file that does not parse: then nothing in it can be told from a secret. The error
// quotes nothing of the file.
func Redact(name string, src []byte) (out []byte, secrets []string, err error) {
	c := newCollector()
	c.addSource(name, src)
	body := (&decoder{collector: c}).parse(name, src)
	if body == nil {
		return nil, nil, fmt.Errorf("%s does not parse, so it cannot be redacted; see gw validate -c %[1]s", name)
	}
	r := &redactor{name: name, src: src, line: 1}
	r.body(body, rootSchema, "", 0)
	r.out.WriteByte('\n')
	slices.Sort(r.secrets)
	return []byte(r.out.String()), slices.Compact(r.secrets), nil
}

// redactor writes a redacted file. Each setting takes one line, so the output never falls behind
// the lines of the source.
type redactor struct {
	name    string
	src     []byte
	out     strings.Builder
	line    int // the line that is being written, from 1
	secrets []string
}

// to goes on to a line of the source with an indent, or writes a blank where it is there already.
func (r *redactor) to(line, depth int) {
	if line == r.line && r.out.Len() > 0 {
		r.out.WriteByte(' ')
		return
	}
	r.out.WriteString(strings.Repeat("\n", line-r.line) + strings.Repeat("  ", depth))
	r.line = line
}

// body writes settings and blocks in the order of the file. The path begins the names in shapes;
// the schema is nil for a body that gw does not know.
func (r *redactor) body(b *hclsyntax.Body, schema *bodySchema, path string, depth int) {
	type item struct {
		at    hcl.Pos
		write func()
	}
	var items []item
	for _, a := range b.Attributes {
		items = append(items, item{a.SrcRange.Start, func() {
			r.out.WriteString(a.Name + " = ")
			r.value(a.Expr, shapes[path+a.Name])
		}})
	}
	for _, k := range b.Blocks {
		items = append(items, item{k.TypeRange.Start, func() { r.block(k, schema, path, depth) }})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.at.Byte, b.at.Byte) })
	for _, i := range items {
		r.to(i.at.Line, depth)
		i.write()
	}
}

func (r *redactor) block(k *hclsyntax.Block, schema *bodySchema, path string, depth int) {
	var known blockSchema
	if schema != nil {
		known, _ = schema.block(k.Type)
	}
	r.out.WriteString(k.Type + " ")
	for i, l := range k.Labels {
		if i >= len(known.labels) || !plainName(l) {
			r.secrets = append(r.secrets, l)
			l = hidden
		}
		r.out.WriteString(strconv.Quote(l) + " ")
	}
	r.out.WriteByte('{')
	r.body(k.Body, known.body, path+k.Type+".", depth+1)
	r.to(k.CloseBraceRange.Start.Line, depth)
	r.out.WriteByte('}')
}

// value writes a literal, or a list of them, as far as each has the shape; nil shows nothing.
func (r *redactor) value(e hclsyntax.Expression, shape func(cty.Value) bool) {
	list, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok {
		r.literal(e, shape)
		return
	}
	r.out.WriteByte('[')
	for i, e := range list.Exprs {
		if i > 0 {
			r.out.WriteString(", ")
		}
		r.literal(e, shape)
	}
	r.out.WriteByte(']')
}

func (r *redactor) literal(e hclsyntax.Expression, shape func(cty.Value) bool) {
	v, diags := e.Value(nil)
	simple := !diags.HasErrors() && v.IsWhollyKnown() && !v.IsNull()
	if shape == nil || !simple || !shape(v) {
		r.hide(e, v, simple)
		r.out.WriteString(strconv.Quote(hidden))
		return
	}
	switch v.Type() {
	case cty.String:
		r.out.WriteString(strconv.Quote(v.AsString()))
	case cty.Number:
		r.out.WriteString(v.AsBigFloat().Text('f', -1))
	case cty.Bool:
		r.out.WriteString(strconv.FormatBool(v.True()))
	}
}

// hide notes the texts of an expression that is not shown: its value, and each piece of text in the
// source.
func (r *redactor) hide(e hclsyntax.Expression, v cty.Value, simple bool) {
	if simple && v.Type() == cty.String {
		r.secrets = append(r.secrets, v.AsString())
	}
	text := e.Range().SliceBytes(r.src)
	tokens, _ := hclsyntax.LexExpression(text, r.name, hcl.InitialPos) // it has been parsed
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenIdent, hclsyntax.TokenNumberLit:
			r.secrets = append(r.secrets, strings.TrimSpace(string(t.Bytes)))
		}
	}
}
