package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Severity tells a mistake from a remark.
type Severity string

// The severities: with an error nothing runs, a warning is only shown.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one finding about the configuration. Its JSON form is the
// output of `gw validate --json`.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`   // "" when it concerns no place in a file
	Line     int      `json:"line,omitempty"`   // from 1
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Summary  string   `json:"summary"`          // what is wrong
	Detail   string   `json:"detail,omitempty"` // what to do about it

	rng hcl.Range
}

// Diagnostics are all findings of one Load, in the order of the files.
type Diagnostics struct {
	List []Diagnostic

	sources map[string][]byte
}

// Error is the error form of Diagnostics that hold at least one error.
type Error struct {
	Diagnostics Diagnostics
}

// Error counts the mistakes and quotes the first one.
func (e *Error) Error() string {
	n := e.Diagnostics.count(SeverityError)
	for _, d := range e.Diagnostics.List {
		if d.Severity != SeverityError {
			continue
		}
		if n == 1 {
			return "configuration: " + d.line()
		}
		return fmt.Sprintf("configuration: %d mistakes, the first: %s", n, d.line())
	}
	return "configuration: no mistake"
}

// HasErrors tells whether anything keeps the configuration from being used.
func (d Diagnostics) HasErrors() bool { return d.count(SeverityError) > 0 }

// Err returns an *Error when there are errors, else nil.
func (d Diagnostics) Err() error {
	if !d.HasErrors() {
		return nil
	}
	return &Error{Diagnostics: d}
}

func (d Diagnostics) count(s Severity) int {
	n := 0
	for _, x := range d.List {
		if x.Severity == s {
			n++
		}
	}
	return n
}

// line is the finding without source text: file:line,column: summary.
func (d Diagnostic) line() string {
	if d.File == "" {
		return d.Summary
	}
	return fmt.Sprintf("%s:%d,%d: %s", d.File, d.Line, d.Column, d.Summary)
}

// collector gathers findings while files are read and checked.
type collector struct {
	list    []Diagnostic
	sources map[string][]byte
	order   map[string]int // of the files
	paths   pathCheck
}

func newCollector() *collector {
	return &collector{sources: map[string][]byte{}, order: map[string]int{}, paths: pathCheck{seen: map[string]bool{}}}
}

func (c *collector) addSource(name string, src []byte) {
	c.sources[name] = src
	c.order[name] = len(c.order)
}

// errorAt records a mistake: what is wrong, and what to do.
func (c *collector) errorAt(rng hcl.Range, detail, format string, args ...any) {
	c.add(SeverityError, rng, detail, fmt.Sprintf(format, args...))
}

// warnAt records a remark.
func (c *collector) warnAt(rng hcl.Range, detail, format string, args ...any) {
	c.add(SeverityWarning, rng, detail, fmt.Sprintf(format, args...))
}

// nowhere is the range of findings that concern no place in a file.
var nowhere hcl.Range

func (c *collector) add(s Severity, rng hcl.Range, detail, summary string) {
	d := Diagnostic{Severity: s, Summary: summary, Detail: detail, rng: rng}
	if rng.Filename != "" {
		d.File, d.Line, d.Column = rng.Filename, rng.Start.Line, rng.Start.Column
	}
	c.list = append(c.list, d)
}

// addHCL takes over what the parser found.
func (c *collector) addHCL(diags hcl.Diagnostics) {
	for _, d := range diags {
		sev := SeverityError
		if d.Severity == hcl.DiagWarning {
			sev = SeverityWarning
		}
		rng := nowhere
		if d.Subject != nil {
			rng = *d.Subject
		}
		c.add(sev, rng, d.Detail, strings.ToLower(d.Summary[:1])+d.Summary[1:])
	}
}

func (c *collector) hasErrors() bool {
	return slices.ContainsFunc(c.list, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// result returns the findings in the order of files and places; those without a
// place come last.
func (c *collector) result() Diagnostics {
	rank := func(d Diagnostic) int {
		if i, ok := c.order[d.File]; ok {
			return i
		}
		return len(c.order)
	}
	slices.SortStableFunc(c.list, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.rng.Start.Byte, b.rng.Start.Byte))
	})
	return Diagnostics{List: c.list, sources: c.sources}
}

// posOf turns a parser's range into the place where it begins.
func posOf(rng hcl.Range) Pos {
	return Pos{File: rng.Filename, Line: rng.Start.Line, Column: rng.Start.Column}
}

// at names a place inside a sentence.
func at(rng hcl.Range) string {
	return fmt.Sprintf("%s:%d,%d", rng.Filename, rng.Start.Line, rng.Start.Column)
}
