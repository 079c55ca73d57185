package main

import (
	"bytes"
	"fmt"
	"strings"
)

// diffContext is how many unchanged lines stand around a change.
const diffContext = 3

// unifiedDiff shows what formatting changes in a file, in the form that patch
// reads. Formatting moves text within lines and never adds or removes one, so
// lines are compared by number. Were their count to differ, all from the first
// to the last difference is shown as one change, which is still a true diff.
func unifiedDiff(name string, old, new []byte) string {
	a, b := splitLines(old), splitLines(new)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", name, name)
	for _, h := range hunks(a, b) {
		h.write(&out, a, b)
	}
	return out.String()
}

// change is a run of lines from..to-1 of the old text that became from..bTo-1
// of the new one.
type change struct{ from, to, bTo int }

// hunk is some changes that are near each other.
type hunk []change

func hunks(a, b []string) []hunk {
	var list []hunk
	for _, c := range changes(a, b) {
		if n := len(list); n > 0 {
			last := list[n-1]
			if c.from-last[len(last)-1].to <= 2*diffContext {
				list[n-1] = append(last, c)
				continue
			}
		}
		list = append(list, hunk{c})
	}
	return list
}

func changes(a, b []string) []change {
	if len(a) != len(b) {
		from, end := 0, 0
		for from < min(len(a), len(b)) && a[from] == b[from] {
			from++
		}
		for end < min(len(a), len(b))-from && a[len(a)-1-end] == b[len(b)-1-end] {
			end++
		}
		return []change{{from, len(a) - end, len(b) - end}}
	}
	var list []change
	for i := 0; i < len(a); i++ {
		if a[i] == b[i] {
			continue
		}
		from := i
		for i < len(a) && a[i] != b[i] {
			i++
		}
		list = append(list, change{from, i, i})
	}
	return list
}

func (h hunk) write(out *strings.Builder, a, b []string) {
	last := h[len(h)-1]
	from := max(h[0].from-diffContext, 0)
	to, shift := min(last.to+diffContext, len(a)), last.bTo-last.to
	fmt.Fprintf(out, "@@ -%s +%s @@\n", lineRange(from, to), lineRange(from, to+shift))
	at := from
	for _, c := range h {
		writeLines(out, ' ', a[at:c.from])
		writeLines(out, '-', a[c.from:c.to])
		writeLines(out, '+', b[c.from:c.bTo])
		at = c.to
	}
	writeLines(out, ' ', a[at:to])
}

// lineRange writes lines from..to-1, counted from 0, as a hunk's head does.
func lineRange(from, to int) string {
	if from == to {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func writeLines(out *strings.Builder, sign byte, lines []string) {
	for _, l := range lines {
		out.WriteByte(sign)
		out.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

func splitLines(text []byte) []string {
	var out []string
	for l := range bytes.Lines(text) {
		out = append(out, string(l))
	}
	return out
}
