package configs

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// text is a string and the place where it was written.
type text struct {
	s  string
	at hcl.Range
}

// number and toggle are the other scalars; nil pointers to them are settings left out.
type number struct {
	n  int64
	at hcl.Range
}

type toggle struct {
	on bool
	at hcl.Range
}

type period struct {
	d  time.Duration
	at hcl.Range
}

// decoder takes values out of bodies. Nothing in a file refers to anything
// else, so expressions are evaluated without variables or functions.
type decoder struct{ *collector }

// scalar evaluates an expression that must be a literal of one type.
func (d *decoder) scalar(name string, expr hclsyntax.Expression, want cty.Type, form string) (cty.Value, bool) {
	if t, ok := expr.(*hclsyntax.ScopeTraversalExpr); ok && len(t.Traversal) == 1 {
		d.errorAt(expr.Range(), fmt.Sprintf("Write it in quotes: %s = %q.", name, t.Traversal.RootName()), "%s: text without quotes", name)
		return cty.NilVal, false
	}
	v, diags := expr.Value(nil)
	if diags.HasErrors() {
		d.addHCL(diags)
		return cty.NilVal, false
	}
	if !v.IsWhollyKnown() || v.IsNull() || !v.Type().Equals(want) {
		d.errorAt(expr.Range(), fmt.Sprintf("Write it as: %s = %s.", name, form), "%s must be %s", name, typeName(want))
		return cty.NilVal, false
	}
	return v, true
}

func typeName(t cty.Type) string {
	switch t {
	case cty.String:
		return "text in quotes"
	case cty.Number:
		return "a number"
	}
	return "true or false"
}

func (d *decoder) text(c content, name, form string) *text {
	a := c.attrs[name]
	if a == nil {
		return nil
	}
	v, ok := d.scalar(name, a.Expr, cty.String, strconv.Quote(form))
	if !ok {
		return nil
	}
	return &text{s: v.AsString(), at: a.Expr.Range()}
}

// texts reads a list of strings; with single, one string stands for a list of one.
func (d *decoder) texts(c content, name, form string, single bool) []text {
	a := c.attrs[name]
	if a == nil {
		return nil
	}
	list, ok := a.Expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		if single {
			if t := d.text(c, name, form); t != nil {
				return []text{*t}
			}
			return nil
		}
		d.errorAt(a.Expr.Range(), fmt.Sprintf("Write it as: %s = [%q].", name, form), "%s must be a list", name)
		return nil
	}
	if len(list.Exprs) == 0 {
		d.errorAt(a.Expr.Range(), fmt.Sprintf("Write it as: %s = [%q].", name, form), "%s is empty", name)
		return nil
	}
	var out []text
	for _, e := range list.Exprs {
		if v, ok := d.scalar(name, e, cty.String, fmt.Sprintf("[%q]", form)); ok {
			out = append(out, text{s: v.AsString(), at: e.Range()})
		}
	}
	return out
}

func (d *decoder) number(c content, name string, form string) *number {
	a := c.attrs[name]
	if a == nil {
		return nil
	}
	v, ok := d.scalar(name, a.Expr, cty.Number, form)
	if !ok {
		return nil
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != 0 {
		d.errorAt(a.Expr.Range(), fmt.Sprintf("Write it as: %s = %s.", name, form), "%s must be a whole number", name)
		return nil
	}
	return &number{n: n, at: a.Expr.Range()}
}

func (d *decoder) toggle(c content, name string) *toggle {
	a := c.attrs[name]
	if a == nil {
		return nil
	}
	v, ok := d.scalar(name, a.Expr, cty.Bool, "true")
	if !ok {
		return nil
	}
	return &toggle{on: v.True(), at: a.Expr.Range()}
}

func (d *decoder) period(c content, name, form string) *period {
	t := d.text(c, name, form)
	if t == nil {
		return nil
	}
	v, err := time.ParseDuration(t.s)
	if err != nil {
		d.errorAt(t.at, fmt.Sprintf("Write a number with a unit (ms, s or m): %s = %q.", name, form), "%s: %q is not a time", name, t.s)
		return nil
	}
	return &period{d: v, at: t.at}
}

// require reports a setting left out.
func (d *decoder) require(b contentBlock, name, form string) {
	if _, ok := b.attrs[name]; !ok {
		d.errorAt(b.at, fmt.Sprintf("Add the line: %s = %s.", name, form), "%s has no %s", describe(b), name)
	}
}

// describe names a block in a message: node "red-1", link "red" "gray".
func describe(b contentBlock) string {
	s := b.name
	for _, l := range b.labels {
		s += " " + strconv.Quote(l.s)
	}
	return s
}

// Limits of what is read, far above any real network. They bound the parser's
// recursion: HCL itself has no limit, and a deep enough file would end the
// process by stack exhaustion.
const (
	maxFileSize  = 512 << 10
	maxNesting   = 64
	maxOperators = 256
)

// parse turns one file into a body. It returns nil when the text can't be read.
func (d *decoder) parse(name string, src []byte) *hclsyntax.Body {
	if !d.checkLimits(name, src) {
		return nil
	}
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	d.addHCL(diags)
	if diags.HasErrors() {
		return nil
	}
	return f.Body.(*hclsyntax.Body)
}

func (d *decoder) checkLimits(name string, src []byte) bool {
	if len(src) > maxFileSize {
		d.errorAt(nowhere, "Is it the right file?", "%s is longer than the %d bytes that are read", name, maxFileSize)
		return false
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos) // its findings come again from the parser
	depth, operators := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
			hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth = max(depth-1, 0)
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenQuestion, hclsyntax.TokenPlus,
			hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr,
			hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
			hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if depth > maxNesting || operators > maxOperators {
			d.errorAt(t.Range, "Settings are plain text, numbers and lists.", "nested too deeply")
			return false
		}
	}
	return true
}

// maxName bounds the names of sites, nodes and rules in bytes, so that the
// longest name of a section, policy.SITE.SITE, fits into the 64 that hello
// carries.
const maxName = 28

// nameOK tells whether a site, node or rule may have this name, and reports it
// if not. Names stand in dotted attribute names, file names and metrics, so
// they are short and plain.
func (c *collector) nameOK(what string, name text) bool {
	hint := fmt.Sprintf("Use at most %d letters, digits, \"-\" and \"_\", a letter or digit first.", maxName)
	s := name.s
	if !plainName(s) {
		c.errorAt(name.at, hint, "%q can't be the name of a %s", s, what)
		return false
	}
	return true
}
