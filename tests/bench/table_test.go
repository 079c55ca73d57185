package bench

import (
	"fmt"
	"strings"
	"testing"
)

// tables are printed when all benchmarks have run, in order.
var tables []*table

// table is the output of one benchmark: one line a figure, one column a
// contestant, and the ratio of the first two.
type table struct {
	title   string
	columns []string // contestants
	lines   []string
}

const (
	nameWidth   = 36
	columnWidth = 10
)

func newTable(title string, all []*contestant) *table {
	t := &table{title: title}
	for _, c := range all {
		t.columns = append(t.columns, c.name)
	}
	tables = append(tables, t)
	return t
}

// head begins a group of lines.
func (t *table) head(text string) { t.lines = append(t.lines, text) }

// figure adds a line: name, and the medians of s. The ratio also becomes a
// metric of the benchmark, for tools that compare runs.
func (t *table) figure(b *testing.B, name, format string, s samples) {
	b.Helper()
	line := fmt.Sprintf("  %-*s", nameWidth-2, name)
	var ours, theirs float64
	for i, c := range t.columns {
		cell := ""
		v, ok := s.median(c)
		if ok {
			cell = fmt.Sprintf(format, v)
		}
		line += fmt.Sprintf("%*s", columnWidth, cell)
		switch i {
		case 0:
			ours = v
			b.ReportMetric(v, unit(name))
		case 1:
			theirs = v
			ratio := ""
			if ok && theirs != 0 {
				ratio = fmt.Sprintf("%.2f", ours/theirs)
				b.ReportMetric(ours/theirs, unit(name)+"-ratio")
			}
			line += fmt.Sprintf("%*s", columnWidth, ratio)
		}
	}
	t.lines = append(t.lines, strings.TrimRight(line, " "))
}

// unit makes a figure's name one word, as a metric's has to be.
func unit(name string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(name)
}

func (t *table) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s\n%-*s", t.title, nameWidth, "")
	for i, c := range t.columns {
		fmt.Fprintf(&out, "%*s", columnWidth, c)
		if i == 1 {
			fmt.Fprintf(&out, "%*s", columnWidth, "ratio")
		}
	}
	out.WriteByte('\n')
	for _, l := range t.lines {
		out.WriteString(l + "\n")
	}
	return out.String()
}
