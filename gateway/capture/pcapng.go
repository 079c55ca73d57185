package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/onewaylink/gw/netstack/wire"
)

// Writer writes a pcapng file (draft-ietf-opsawg-pcapng) with two interfaces, the host's side and
// the link's.
type Writer struct {
	w   io.Writer
	buf []byte
	err error
}

// Labels are what a file says about its origin.
type Labels struct {
	// Software is what wrote it, with its version, Node and Device where.
	Software, Node, Device string
}

// The parts of the format that are used.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockStats     = 5
	blockPacket    = 6

	optEnd       = 0
	optComment   = 1
	optUserAppl  = 4 // of a section
	optName      = 2 // of an interface
	optDescr     = 3
	optTSResol   = 9
	optFlags     = 2 // of a packet
	optIfDrop    = 5 // of statistics
	hostSide     = 0
	linkSide     = 1
	flagInbound  = 1
	flagOutbound = 2
)

// Each packet stands behind a header of LINKTYPE_LINUX_SLL
// (https://www.tcpdump.org/linktypes.html), by which old tools know its direction too. LINKTYPE_RAW
// would need none, but libpcap up to 1.10 reads a second interface with it as one of another type.
const (
	linkType   = 113
	linkHeader = 16
	toUs       = 0
	fromUs     = 4
	noHardware = 0xfffe // ARPHRD_NONE, as a TUN device has it
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
)

// NewWriter writes what a file begins with.
func NewWriter(w io.Writer, l Labels) (*Writer, error) {
	pw := &Writer{w: w}
	pw.block(blockSection, func() {
		pw.u32(0x1a2b3c4d) // in the byte order of this file
		pw.u16(1)
		pw.u16(0)
		pw.u32(0xffffffff) // the length of the section is not known
		pw.u32(0xffffffff)
		pw.option(optUserAppl, l.Software)
		pw.u32(optEnd)
	})
	pw.side(l.Device, "the host's side of "+l.Node+": packets as the host's kernel has them")
	pw.side("link", "the link's side of "+l.Node+": packets inside the tunnel")
	return pw, pw.flush()
}

func (w *Writer) side(name, what string) {
	w.block(blockInterface, func() {
		w.u16(linkType)
		w.u16(0)
		w.u32(linkHeader + MaxHead)
		w.option(optName, name)
		w.option(optDescr, what)
		w.option(optTSResol, "\x09") // nanoseconds
		w.u32(optEnd)
	})
}

// Write writes a packet with its comment.
func (w *Writer) Write(r *Record) error {
	side, dir := uint32(linkSide), uint32(flagOutbound)
	if r.Point.OnHost() {
		side = hostSide
	}
	if r.Point.Inbound() {
		dir = flagInbound
	}
	w.block(blockPacket, func() {
		w.u32(side)
		w.u32(uint32(uint64(r.At) >> 32))
		w.u32(uint32(uint64(r.At)))
		w.u32(uint32(linkHeader + len(r.Head)))
		w.u32(uint32(linkHeader + r.Length))
		w.link(r)
		w.bytes(r.Head)
		if c := r.Comment(); c != "" {
			w.option(optComment, c)
		}
		w.u16(optFlags)
		w.u16(4)
		w.u32(dir)
		w.u32(optEnd)
	})
	return w.flush()
}

// link appends the packet's link header, which is in big endian.
func (w *Writer) link(r *Record) {
	kind, ether := uint16(fromUs), uint16(etherIPv4)
	if r.Point.Inbound() {
		kind = toUs
	}
	if len(r.Head) > 0 && r.Head[0]>>4 == 6 {
		ether = etherIPv6
	}
	w.buf = binary.BigEndian.AppendUint16(w.buf, kind)
	w.buf = binary.BigEndian.AppendUint16(w.buf, noHardware)
	w.buf = append(w.buf, make([]byte, 10)...) // no hardware address, and its length
	w.buf = binary.BigEndian.AppendUint16(w.buf, ether)
}

// Close writes how many packets could not be kept. It closes nothing.
func (w *Writer) Close(at int64, lost uint64) error {
	w.block(blockStats, func() {
		w.u32(hostSide)
		w.u32(uint32(uint64(at) >> 32))
		w.u32(uint32(uint64(at)))
		w.u16(optIfDrop)
		w.u16(8)
		w.buf = binary.NativeEndian.AppendUint64(w.buf, lost)
		w.u32(optEnd)
	})
	return w.flush()
}

// Comment describes what happened to the packet, and by which rule.
func (s *Sight) Comment() string {
	var parts []string
	if s.Reason != wire.OK {
		parts = append(parts, "dropped: "+s.Reason.String())
	}
	if s.Rule != "" {
		rule := "rule " + s.Rule
		if s.Pos != "" {
			rule += " (" + s.Pos + ")"
		}
		parts = append(parts, rule)
	}
	if s.Note != Plain {
		parts = append(parts, s.Note.String())
	}
	return strings.Join(parts, ", ")
}

// block appends a block, with its length before and behind.
func (w *Writer) block(kind uint32, body func()) {
	start := len(w.buf)
	w.u32(kind)
	w.u32(0)
	body()
	size := uint32(len(w.buf) - start + 4)
	binary.NativeEndian.PutUint32(w.buf[start+4:], size)
	w.u32(size)
}

func (w *Writer) u16(v uint16) { w.buf = binary.NativeEndian.AppendUint16(w.buf, v) }
func (w *Writer) u32(v uint32) { w.buf = binary.NativeEndian.AppendUint32(w.buf, v) }

// bytes appends b, filled up to a multiple of 4.
func (w *Writer) bytes(b []byte) {
	w.buf = append(w.buf, b...)
	for range -len(b) & 3 {
		w.buf = append(w.buf, 0)
	}
}

func (w *Writer) option(code uint16, value string) {
	value = value[:min(len(value), 1<<16-4)]
	w.u16(code)
	w.u16(uint16(len(value)))
	w.bytes([]byte(value))
}

// flush hands on what was appended. The first error stays.
func (w *Writer) flush() error {
	if w.err == nil {
		if _, err := w.w.Write(w.buf); err != nil {
			w.err = fmt.Errorf("write capture: %w", err)
		}
	}
	w.buf = w.buf[:0]
	return w.err
}
