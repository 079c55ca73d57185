package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// width is the number of columns that the demo fills.
const width = 80

// stage prints the demo.
type stage struct {
	out    io.Writer
	colour bool
	start  time.Time
	acts   int
	claims []claim
	facts  []fact
	wrong  int // claims that don't hold, and acts that failed
}

// fact is a line of the summary.
type fact struct{ what, value string }

// claim is a statement that the demo has checked.
type claim struct {
	holds        bool
	what, detail string
}

func newStage(f *os.File) *stage {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &stage{out: f, colour: err == nil && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

// The parts of SGR (ECMA-48 section 8.3.117) that the demo uses.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *stage) paint(style, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// act begins a new act.
func (s *stage) act(title string) {
	s.acts++
	head := fmt.Sprintf("━━ %d. %s ", s.acts, title)
	s.text("\n" + s.paint(bold, head+strings.Repeat("━", max(0, width-utf8.RuneCountInString(head)))))
}

// text prints lines as they are.
func (s *stage) text(text string) { fmt.Fprintln(s.out, text) }

// say prints a paragraph.
func (s *stage) say(format string, args ...any) { s.text("\n" + fmt.Sprintf(format, args...)) }

// command prints a command, and where it runs.
func (s *stage) command(where, line string) {
	s.text("\n" + s.paint(dim, where+" $ ") + s.paint(cyan, line))
}

// moment prints an event with the time since the first one of its series.
func (s *stage) moment(since time.Time, format string, args ...any) {
	s.text(fmt.Sprintf("  %6.2f s  %s", time.Since(since).Seconds(), fmt.Sprintf(format, args...)))
}

// claim prints a checked statement, with a detail at the right.
func (s *stage) claim(holds bool, what, format string, args ...any) {
	c := claim{holds, what, fmt.Sprintf(format, args...)}
	s.claims = append(s.claims, c)
	if !holds {
		s.wrong++
	}
	s.text(s.line(c))
}

// fact keeps a line for the summary.
func (s *stage) fact(what, format string, args ...any) {
	s.facts = append(s.facts, fact{what, fmt.Sprintf(format, args...)})
}

// failed prints why the demo fails.
func (s *stage) failed(err error) {
	s.wrong++
	s.text("\n" + s.paint(red, "✘ "+err.Error()))
}

func (s *stage) line(c claim) string {
	mark := s.paint(green, "✔")
	if !c.holds {
		mark = s.paint(red, "✘")
	}
	gap := width - 4 - utf8.RuneCountInString(c.what) - utf8.RuneCountInString(c.detail)
	return "  " + mark + " " + c.what + s.paint(dim, " "+strings.Repeat("·", max(1, gap-2))+" ") + c.detail
}

// summary ends the demo: the facts, and the claims that did not hold.
func (s *stage) summary() {
	s.text("\n" + s.paint(bold, strings.Repeat("━", width)) + "\n")
	for _, f := range s.facts {
		s.text(fmt.Sprintf("  %s %s", s.paint(dim, fmt.Sprintf("%-22s", f.what)), f.value))
	}
	s.text("")
	took := time.Since(s.start).Seconds()
	if s.wrong == 0 {
		verdict := fmt.Sprintf("All %d claims hold", len(s.claims))
		s.text(fmt.Sprintf("  %s, after %.0f seconds. Everything that the demo set up is removed.\n", s.paint(bold+";"+green, verdict), took))
		return
	}
	for _, c := range s.claims {
		if !c.holds {
			s.text(s.line(c))
		}
	}
	s.text("\n  " + s.paint(bold+";"+red, fmt.Sprintf("The demo failed after %.0f seconds.", took)) + "\n")
}
