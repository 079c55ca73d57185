package hello

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"unicode/utf8"
)

// A Section is a part of the configuration that a node shares with its peer.
type Section struct {
	Name   string
	Digest [32]byte // equal on both nodes when the section is
	Attrs  []Attr
}

// An Attr is one setting of a section. Its value never leaves the site; only a
// digest of it does.
type Attr struct {
	Name   string
	Digest [8]byte
	Fatal  bool // a difference would fail silently later: don't start with one
}

// DifferenceKind says in which way both sides differ.
type DifferenceKind uint8

const (
	Differs   DifferenceKind = iota // both have it, with different values
	OnlyHere                        // the peer doesn't have it
	OnlyThere                       // only the peer has it
)

func (k DifferenceKind) String() string {
	switch k {
	case OnlyHere:
		return "only here"
	case OnlyThere:
		return "only there"
	default:
		return "differs"
	}
}

// A Difference names what differs between two nodes' configurations.
type Difference struct {
	Section string
	// Name is the attribute; it is empty when the section as a whole is
	// missing on one side, or differs in a way that can't be told closer.
	Name  string
	Kind  DifferenceKind
	Fatal bool // of the attribute, on either side
}

// prepare bounds and sorts what the caller gave, so that both nodes see the
// same names whatever their length.
func prepare(in []Section) []Section {
	out := make([]Section, 0, min(len(in), MaxSections))
	room := MaxAttrs
	for _, s := range in[:min(len(in), MaxSections)] {
		attrs := make([]Attr, 0, len(s.Attrs))
		for _, a := range s.Attrs {
			a.Name = fit(a.Name, MaxAttrName)
			attrs = append(attrs, a)
		}
		slices.SortFunc(attrs, func(a, b Attr) int { return cmp.Compare(a.Name, b.Name) })
		attrs = slices.CompactFunc(attrs, func(a, b Attr) bool { return a.Name == b.Name })
		attrs = attrs[:min(len(attrs), room)]
		room -= len(attrs)
		out = append(out, Section{Name: fit(s.Name, MaxName), Digest: s.Digest, Attrs: attrs})
	}
	slices.SortFunc(out, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(out, func(a, b Section) bool { return a.Name == b.Name })
}

// fit shortens a name that is too long to travel, keeping it distinct, and
// replaces what a decoder would refuse.
func fit(s string, limit int) string {
	short := s
	if _, err := name([]byte(s), limit); err == nil {
		return s
	}
	if !utf8.ValidString(s) {
		short = ""
	}
	clean := make([]rune, 0, limit)
	for _, r := range short {
		if _, err := name([]byte(string(r)), limit); err == nil {
			clean = append(clean, r)
		}
	}
	sum := sha256.Sum256([]byte(s))
	tail := "~" + hex.EncodeToString(sum[:4])
	for len(string(clean)) > limit-len(tail) {
		clean = clean[:len(clean)-1]
	}
	return string(clean) + tail
}

// diff lists what differs between two sorted lists of one section.
func diff(section string, here, there []Attr) (out []Difference) {
	for len(here) > 0 || len(there) > 0 {
		d := Difference{Section: section}
		switch {
		case len(there) == 0 || len(here) > 0 && here[0].Name < there[0].Name:
			d.Name, d.Kind, d.Fatal = here[0].Name, OnlyHere, here[0].Fatal
			here = here[1:]
		case len(here) == 0 || there[0].Name < here[0].Name:
			d.Name, d.Kind, d.Fatal = there[0].Name, OnlyThere, there[0].Fatal
			there = there[1:]
		default:
			same := here[0].Digest == there[0].Digest
			d.Name, d.Kind, d.Fatal = here[0].Name, Differs, here[0].Fatal || there[0].Fatal
			here, there = here[1:], there[1:]
			if same {
				continue
			}
		}
		out = append(out, d)
	}
	return out
}
