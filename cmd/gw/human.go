package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// columns is how wide text for people may be.
const columns = 80

// bytesText writes a number of bytes as wg(8) does.
func bytesText(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	// 1023.995 is the first that %.2f would show as 1024.00.
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		v /= 1024
		unit = u
		if v < 1023.995 {
			break
		}
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

// shortBytes writes a number of bytes in at most five characters, for a table.
func shortBytes(n uint64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	v, unit := float64(n), 'K'
	for _, u := range "KMGTPE" {
		v /= 1024
		unit = u
		if v < 999.5 {
			break
		}
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f%c", v, unit)
	}
	return fmt.Sprintf("%.0f%c", v, unit)
}

var spanUnits = []struct {
	size  time.Duration
	name  string
	short byte
}{
	{365 * 24 * time.Hour, "year", 'y'},
	{24 * time.Hour, "day", 'd'},
	{time.Hour, "hour", 'h'},
	{time.Minute, "minute", 'm'},
	{time.Second, "second", 's'},
}

// spanText writes a span of time in its two largest units, cut to whole seconds.
func spanText(d time.Duration) string {
	for i, u := range spanUnits {
		if d < u.size {
			continue
		}
		text := plural(int(d/u.size), u.name)
		if i+1 < len(spanUnits) {
			if next := spanUnits[i+1]; d%u.size >= next.size {
				text += ", " + plural(int(d%u.size/next.size), next.name)
			}
		}
		return text
	}
	return "less than a second"
}

// shortSpan writes a span of time in its largest unit, for a table.
func shortSpan(d time.Duration) string {
	for _, u := range spanUnits {
		if d >= u.size {
			return fmt.Sprintf("%d%c", d/u.size, u.short)
		}
	}
	return "0s"
}

// agoText says how long before now something was. A clock that was set back since must not give a
// negative age.
func agoText(now, then time.Time) string {
	d := now.Sub(then)
	if d < time.Second {
		return "now"
	}
	return spanText(d) + " ago"
}

// delayText writes a round trip with three digits or so.
func delayText(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
}

// rateText writes a number of bytes per second in bits, as people say what a line carries.
func rateText(n uint64) string {
	v, unit := 8*float64(n), "bit/s"
	for _, u := range []string{"kbit/s", "Mbit/s", "Gbit/s"} {
		if v < 999.5 {
			break
		}
		v /= 1000
		unit = u
	}
	if v < 9.95 && unit != "bit/s" {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// percentText writes a ratio with as many decimals as it is worth.
func percentText(ratio float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", ratio*100), "0"), ".") + " %"
}

func plural[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printer lays out text for people: 80 columns, and colour on a terminal.
type printer struct {
	out    strings.Builder
	colour bool
}

// A style is an SGR sequence (ECMA-48, section 8.3.117).
type style string

const (
	bold   style = "\x1b[1m"
	green  style = "\x1b[1;32m"
	yellow style = "\x1b[1;33m"
	red    style = "\x1b[1;31m"
	normal style = "\x1b[0m"
)

// printed is what text prints.
func printed(text func(*printer)) func(colour bool) string {
	return func(colour bool) string {
		p := &printer{colour: colour}
		text(p)
		return p.out.String()
	}
}

func (p *printer) styled(s style, text string) string {
	if !p.colour {
		return text
	}
	return string(s) + text + string(normal)
}

// title begins a section: a styled word and what it is about.
func (p *printer) title(s style, name, value string) {
	if p.out.Len() > 0 {
		p.out.WriteByte('\n')
	}
	p.wrapped(0, 2, s, name+":", value)
}

// field writes one line of a section.
func (p *printer) field(name, value string) { p.wrapped(2, 4, bold, name+":", value) }

// alarm is a field that wants somebody to do something.
func (p *printer) alarm(name, value string) { p.wrapped(2, 4, red, name+":", value) }

// wrapped writes a styled label and its text, broken between words; lines after the first are
// indented by hang. Text may hold words of another site, so nothing in it reaches the terminal but
// what can be printed.
func (p *printer) wrapped(indent, hang int, s style, label, text string) {
	p.out.WriteString(strings.Repeat(" ", indent))
	column := indent
	if label != "" {
		label = printable(label)
		p.out.WriteString(p.styled(s, label))
		column += utf8.RuneCountInString(label)
	}
	fresh := label == ""
	for _, word := range strings.Fields(printable(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case fresh:
		case column+1+n > columns && column > hang:
			p.out.WriteString("\n" + strings.Repeat(" ", hang))
			column = hang
		default:
			p.out.WriteByte(' ')
			column++
		}
		p.out.WriteString(word)
		column += n
		fresh = false
	}
	p.out.WriteByte('\n')
}

// line writes a line as it is.
func (p *printer) line(text string) {
	p.out.WriteString(strings.TrimRight(printable(text), " ") + "\n")
}

// printable replaces what could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// wantsColour says whether w is a terminal whose user did not ask for plain text (no-color.org).
func wantsColour(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

// isTerminal says whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
