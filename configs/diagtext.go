package configs

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// textWidth is the width of the terminal that diagnostics are laid out for.
const textWidth = 80

// The escape sequences of a terminal (ECMA-48, SGR).
const (
	sgrBold   = "\x1b[1m"
	sgrRed    = "\x1b[31m"
	sgrYellow = "\x1b[33m"
	sgrReset  = "\x1b[0m"
)

// WriteDiagnostics writes the findings for a person: the place, the line with
// the text underlined, and what to do. With color it uses escape sequences of a
// terminal. Lines are at most 80 columns wide as far as names and paths allow.
func (d Diagnostics) WriteDiagnostics(w io.Writer, color bool) error {
	var b bytes.Buffer
	for i, x := range d.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		d.writeOne(&b, x, color)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (d Diagnostics) writeOne(b *bytes.Buffer, x Diagnostic, color bool) {
	paint := func(sgr, s string) string {
		if !color {
			return s
		}
		return sgr + s + sgrReset
	}
	mark := sgrRed
	if x.Severity == SeverityWarning {
		mark = sgrYellow
	}

	var head string
	if x.File != "" {
		head = fmt.Sprintf("%s:%d,%d: ", x.File, x.Line, x.Column)
	}
	// The head is painted piecewise, so it is wrapped as plain text first.
	lines := wrap(head+string(x.Severity)+": "+x.Summary, textWidth, "    ")
	first := strings.TrimPrefix(lines[0], head)
	if len(lines[0]) != len(first) || head == "" {
		first = strings.TrimPrefix(first, string(x.Severity))
		lines[0] = paint(sgrBold, head) + paint(mark, string(x.Severity)) + first
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}

	if src, ok := d.sources[x.File]; ok && x.File != "" {
		text, under := excerpt(src, x, textWidth-8)
		fmt.Fprintf(b, "%5d | %s\n", x.Line, text)
		fmt.Fprintf(b, "      | %s\n", strings.TrimRight(strings.Repeat(" ", under.start)+paint(mark, under.text()), " "))
	}
	if x.Detail != "" {
		for _, l := range wrap(x.Detail, textWidth-2, "") {
			b.WriteString("  " + l + "\n")
		}
	}
}

// underline is the marked part of an excerpt, in columns.
type underline struct{ start, length int }

func (u underline) text() string {
	if u.length <= 1 {
		return "^"
	}
	return "^" + strings.Repeat("~", u.length-1)
}

// excerpt returns the source line of a finding, cut to width columns around the
// marked text, and what to underline. Tabs count as four columns.
func excerpt(src []byte, x Diagnostic, width int) (string, underline) {
	start := min(x.rng.Start.Byte, len(src))
	from := bytes.LastIndexByte(src[:start], '\n') + 1
	to := len(src)
	if i := bytes.IndexByte(src[start:], '\n'); i >= 0 {
		to = start + i
	}
	end := min(max(x.rng.End.Byte, start), to)

	show := func(b []byte) []rune {
		s := strings.ReplaceAll(strings.TrimRight(string(b), "\r"), "\t", "    ")
		return []rune(strings.Map(printable, strings.ToValidUTF8(s, "?")))
	}
	before, marked, after := show(src[from:start]), show(src[start:end]), show(src[end:to])
	line := append(append(append([]rune{}, before...), marked...), after...)
	u := underline{start: len(before), length: len(marked)}

	// A long line is cut left of the mark so that the mark stays in sight.
	if len(line) > width && u.start+min(u.length, width/2) > width {
		cut := u.start - width/4
		line = append([]rune("…"), line[cut:]...)
		u.start -= cut - 1
	}
	if len(line) > width {
		line = append(line[:width-1:width-1], '…')
	}
	u.length = max(min(u.length, len(line)-u.start), 0)
	return string(line), u
}

// printable keeps control characters of a damaged file from the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// wrap breaks text at spaces; lines after the first are indented.
func wrap(text string, width int, indent string) []string {
	var lines []string
	for _, para := range strings.Split(text, "\n") {
		words := strings.Fields(strings.Map(printable, para))
		line := ""
		for _, word := range words {
			switch {
			case line == "":
				line = word
			case len([]rune(line))+1+len([]rune(word)) <= width:
				line += " " + word
			default:
				lines = append(lines, line)
				line = indent + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}
