package hello

import (
	"errors"
	"fmt"
	"time"
)

// Version is the version of the protocol that this package speaks. It stands
// in the first four bytes of every message, whose form never changes, so that
// two nodes of different age can at least tell each other.
const Version = 1

// Bounds of what a message may carry. A decoder refuses what exceeds them.
const (
	// MaxPayload is the size in bytes of the largest message without padding.
	// With IPv6 and UDP headers it fits into every inner packet size searched
	// (RFC 8200, section 5 asks a link to carry 1280).
	MaxPayload = 1024
	// MaxName bounds the names of sites, nodes, sections and versions, in bytes.
	MaxName = 64
	// MaxAttrName bounds the name of an attribute, in bytes.
	MaxAttrName = 128
	// MaxSections bounds the sections that a node announces.
	MaxSections = 8
	// MaxAttrs bounds the attributes that are exchanged about one link.
	MaxAttrs = 4096
)

// Errors of the codec. A payload refused with one of them is dropped.
var (
	// ErrMalformed says that the payload is no message, or a damaged one.
	ErrMalformed = errors.New("malformed hello")
	// ErrUnknownType says that the message is of a kind that this version
	// doesn't know; it is dropped in silence, for a younger peer may send it.
	ErrUnknownType = errors.New("hello of an unknown type")
)

// A VersionError says that the peer speaks another version of the protocol.
type VersionError struct {
	// Theirs is the version that the peer speaks; [Version] is ours.
	Theirs uint8
}

func (e *VersionError) Error() string {
	older := "the peer's"
	if e.Theirs > Version {
		older = "this"
	}
	return fmt.Sprintf("peer speaks version %d of the hello protocol and this gw version %d: upgrade %s gw", e.Theirs, Version, older)
}

// Capabilities is a set of bits that says what a node can take.
type Capabilities uint32

const (
	// PartialChecksums says that the node accepts TCP and UDP packets whose
	// checksum field holds only the sum of the pseudo-header.
	PartialChecksums Capabilities = 1 << iota
	// Trunks says that the node takes trunks as package trunk makes them, so that
	// connections can be relayed to it.
	Trunks
)

type kind uint8

const (
	kindHello kind = 1 + iota
	kindProbe
	kindAck
	kindWant
	kindAttrs
)

// message is one decoded payload; only the part that kind names is filled.
type message struct {
	kind  kind
	hello helloMsg
	probe probeMsg // of kindProbe and kindAck
	want  wantMsg
	attrs attrsMsg
}

// helloMsg is the message that keeps a link alive and measures it.
type helloMsg struct {
	boot      uint64        // random, names the sender's process
	seq       uint32        // counts the sender's hellos
	nonce     uint64        // random; the receiver echoes it
	wall      int64         // sender's wall clock, ns since 1970
	answer    bool          // the sender wants a hello back at once
	interval  time.Duration // between two hellos of the sender, in whole ms
	keepalive time.Duration // of the sender's WireGuard, in whole ms
	caps      Capabilities
	mtu       uint16 // bytes of inner packet that pass from sender to receiver

	echo  *echoMsg // nil until the sender has received a hello of the receiver
	heard heardMsg

	software, site, node string
	sections             []sectionMsg
	duplicate            [2]string // endpoints at which the receiver's key is used twice
}

// echoMsg returns to the receiver the number in its latest hello, which measures the round trip
// (as RFC 7323, section 4 does) and proves that the sender has read that hello.
type echoMsg struct {
	boot  uint64        // the receiver's process
	nonce uint64        // of the receiver's latest hello
	hold  time.Duration // since that hello arrived at the sender
}

// heardMsg is what the sender has of the receiver's latest hellos.
type heardMsg struct {
	highest       uint32
	window, count uint8
}

type sectionMsg struct {
	name   string
	digest sectionDigest
	fatal  bool // the section holds attributes that must agree
}

// sectionDigest is a section's digest as it travels, truncated.
type sectionDigest [16]byte

// probeMsg asks whether an inner packet of size bytes arrives, or says that one did.
type probeMsg struct {
	id   uint32
	size uint16
}

// wantMsg asks for the attributes of a section from the offset-th on.
type wantMsg struct {
	section string
	offset  uint16
}

// attrsMsg is a part of a section's attributes, sorted by name.
type attrsMsg struct {
	section string
	digest  sectionDigest
	offset  uint16
	total   uint16
	attrs   []Attr
}
