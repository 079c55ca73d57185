package hello

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The wire format. A header of eight bytes:
//
//	"gwh" | version | kind | 0 | length of the fields (2)
//
// then fields, each tag (1) | length (2) | value, all integers big-endian,
// then padding, which is zero and ignored. Fields with unknown tags are
// skipped, so that a later release can add some without a new version; a
// field that is known may be longer than expected for the same reason.
const (
	magic     = "gwh"
	headerLen = 8
	fieldLen  = 3
)

const (
	tagCore      = 1
	tagEcho      = 2
	tagHeard     = 3
	tagSoftware  = 4
	tagSite      = 5
	tagNode      = 6
	tagSection   = 7
	tagDuplicate = 8
	tagProbe     = 16
	tagWant      = 32
	tagAttrsHead = 33
	tagAttr      = 34
)

const (
	coreLen     = 43
	echoLen     = 24
	heardLen    = 6
	probeLen    = 6
	sectionBase = 1 + 16
	attrsBase   = 16 + 2 + 2
	attrBase    = 1 + 8
)

const (
	flagAnswer = 1 << 0 // in the core field
	flagFatal  = 1 << 0 // in section and attribute fields
)

// appendMessage appends m to b. It trusts m to keep within the bounds.
func appendMessage(b []byte, m *message) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, Version, byte(m.kind), 0, 0, 0)
	switch m.kind {
	case kindHello:
		b = appendHello(b, &m.hello)
	case kindProbe, kindAck:
		b = appendField(b, tagProbe, func(b []byte) []byte {
			b = binary.BigEndian.AppendUint32(b, m.probe.id)
			return binary.BigEndian.AppendUint16(b, m.probe.size)
		})
	case kindWant:
		b = appendField(b, tagWant, func(b []byte) []byte {
			b = binary.BigEndian.AppendUint16(b, m.want.offset)
			return append(b, m.want.section...)
		})
	case kindAttrs:
		b = appendAttrs(b, &m.attrs)
	}
	binary.BigEndian.PutUint16(b[start+6:], uint16(len(b)-start-headerLen))
	return b
}

// appendPadded appends m and zeros up to size bytes in all.
func appendPadded(b []byte, m *message, size int) []byte {
	start := len(b)
	b = appendMessage(b, m)
	if pad := size - (len(b) - start); pad > 0 {
		b = append(b, make([]byte, pad)...)
	}
	return b
}

func appendField(b []byte, tag byte, value func([]byte) []byte) []byte {
	b = append(b, tag, 0, 0)
	start := len(b)
	b = value(b)
	binary.BigEndian.PutUint16(b[start-2:], uint16(len(b)-start))
	return b
}

func appendString(b []byte, tag byte, s string) []byte {
	if s == "" {
		return b
	}
	return appendField(b, tag, func(b []byte) []byte { return append(b, s...) })
}

func appendHello(b []byte, h *helloMsg) []byte {
	b = appendField(b, tagCore, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(b, h.boot)
		b = binary.BigEndian.AppendUint32(b, h.seq)
		b = binary.BigEndian.AppendUint64(b, h.nonce)
		b = binary.BigEndian.AppendUint64(b, uint64(h.wall))
		b = append(b, bit(h.answer, flagAnswer))
		b = binary.BigEndian.AppendUint32(b, uint32(h.interval/time.Millisecond))
		b = binary.BigEndian.AppendUint32(b, uint32(h.keepalive/time.Millisecond))
		b = binary.BigEndian.AppendUint32(b, uint32(h.caps))
		return binary.BigEndian.AppendUint16(b, h.mtu)
	})
	if h.echo != nil {
		b = appendField(b, tagEcho, func(b []byte) []byte {
			b = binary.BigEndian.AppendUint64(b, h.echo.boot)
			b = binary.BigEndian.AppendUint64(b, h.echo.nonce)
			return binary.BigEndian.AppendUint64(b, uint64(h.echo.hold))
		})
	}
	b = appendField(b, tagHeard, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, h.heard.highest)
		return append(b, h.heard.window, h.heard.count)
	})
	b = appendString(b, tagSoftware, h.software)
	b = appendString(b, tagSite, h.site)
	b = appendString(b, tagNode, h.node)
	for _, s := range h.sections {
		b = appendField(b, tagSection, func(b []byte) []byte {
			b = append(b, bit(s.fatal, flagFatal))
			b = append(b, s.digest[:]...)
			return append(b, s.name...)
		})
	}
	if h.duplicate[0] != "" || h.duplicate[1] != "" {
		b = appendField(b, tagDuplicate, func(b []byte) []byte {
			b = append(b, byte(len(h.duplicate[0])))
			b = append(b, h.duplicate[0]...)
			return append(b, h.duplicate[1]...)
		})
	}
	return b
}

func appendAttrs(b []byte, l *attrsMsg) []byte {
	b = appendField(b, tagAttrsHead, func(b []byte) []byte {
		b = append(b, l.digest[:]...)
		b = binary.BigEndian.AppendUint16(b, l.offset)
		b = binary.BigEndian.AppendUint16(b, l.total)
		return append(b, l.section...)
	})
	for _, a := range l.attrs {
		b = appendField(b, tagAttr, func(b []byte) []byte {
			b = append(b, bit(a.Fatal, flagFatal))
			b = append(b, a.Digest[:]...)
			return append(b, a.Name...)
		})
	}
	return b
}

// attrLen is the room that a takes in a message, in bytes.
func attrLen(a Attr) int { return fieldLen + attrBase + len(a.Name) }

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// decode reads one payload. The result shares no memory with b.
func decode(b []byte) (m message, err error) {
	if len(b) < headerLen || string(b[:3]) != magic {
		return m, fmt.Errorf("%w: no header", ErrMalformed)
	}
	if b[3] != Version {
		return m, &VersionError{Theirs: b[3]}
	}
	m.kind = kind(b[4])
	if m.kind < kindHello || m.kind > kindAttrs {
		return m, ErrUnknownType
	}
	n := int(binary.BigEndian.Uint16(b[6:]))
	if n > MaxPayload-headerLen || headerLen+n > len(b) {
		return m, fmt.Errorf("%w: length %d", ErrMalformed, n)
	}
	seen := make(map[byte]bool, 8)
	for f := b[headerLen : headerLen+n]; len(f) > 0; {
		if len(f) < fieldLen {
			return m, fmt.Errorf("%w: torn field", ErrMalformed)
		}
		tag, size := f[0], int(binary.BigEndian.Uint16(f[1:]))
		if len(f) < fieldLen+size {
			return m, fmt.Errorf("%w: field %d of %d bytes exceeds the message", ErrMalformed, tag, size)
		}
		value := f[fieldLen : fieldLen+size]
		f = f[fieldLen+size:]
		if seen[tag] && tag != tagSection && tag != tagAttr {
			return m, fmt.Errorf("%w: field %d twice", ErrMalformed, tag)
		}
		seen[tag] = true
		if err := m.field(tag, value); err != nil {
			return m, err
		}
	}
	need := map[kind]byte{kindHello: tagCore, kindProbe: tagProbe, kindAck: tagProbe, kindWant: tagWant, kindAttrs: tagAttrsHead}[m.kind]
	if !seen[need] {
		return m, fmt.Errorf("%w: field %d is missing", ErrMalformed, need)
	}
	return m, nil
}

func (m *message) field(tag byte, v []byte) (err error) {
	short := func(n int) bool {
		if len(v) < n {
			err = fmt.Errorf("%w: field %d has %d bytes and needs %d", ErrMalformed, tag, len(v), n)
		}
		return err != nil
	}
	switch {
	case m.kind == kindHello:
		return m.hello.field(tag, v, short, &err)
	case tag == tagProbe && (m.kind == kindProbe || m.kind == kindAck):
		if short(probeLen) {
			return err
		}
		m.probe = probeMsg{id: binary.BigEndian.Uint32(v), size: binary.BigEndian.Uint16(v[4:])}
	case tag == tagWant && m.kind == kindWant:
		if short(2) {
			return err
		}
		m.want.offset = binary.BigEndian.Uint16(v)
		m.want.section, err = name(v[2:], MaxName)
	case tag == tagAttrsHead && m.kind == kindAttrs:
		if short(attrsBase) {
			return err
		}
		copy(m.attrs.digest[:], v)
		m.attrs.offset = binary.BigEndian.Uint16(v[16:])
		m.attrs.total = binary.BigEndian.Uint16(v[18:])
		if m.attrs.total > MaxAttrs {
			return fmt.Errorf("%w: %d attributes", ErrMalformed, m.attrs.total)
		}
		m.attrs.section, err = name(v[attrsBase:], MaxName)
	case tag == tagAttr && m.kind == kindAttrs:
		if short(attrBase) {
			return err
		}
		a := Attr{Fatal: v[0]&flagFatal != 0}
		copy(a.Digest[:], v[1:])
		if a.Name, err = name(v[attrBase:], MaxAttrName); err == nil {
			m.attrs.attrs = append(m.attrs.attrs, a)
		}
	}
	return err
}

func (h *helloMsg) field(tag byte, v []byte, short func(int) bool, err *error) error {
	switch tag {
	case tagCore:
		if short(coreLen) {
			return *err
		}
		if h.boot = binary.BigEndian.Uint64(v); h.boot == 0 {
			return fmt.Errorf("%w: no boot number", ErrMalformed)
		}
		h.seq = binary.BigEndian.Uint32(v[8:])
		h.nonce = binary.BigEndian.Uint64(v[12:])
		h.wall = int64(binary.BigEndian.Uint64(v[20:]))
		h.answer = v[28]&flagAnswer != 0
		h.interval = time.Duration(binary.BigEndian.Uint32(v[29:])) * time.Millisecond
		h.keepalive = time.Duration(binary.BigEndian.Uint32(v[33:])) * time.Millisecond
		h.caps = Capabilities(binary.BigEndian.Uint32(v[37:]))
		h.mtu = binary.BigEndian.Uint16(v[41:])
	case tagEcho:
		if short(echoLen) {
			return *err
		}
		h.echo = &echoMsg{
			boot:  binary.BigEndian.Uint64(v),
			nonce: binary.BigEndian.Uint64(v[8:]),
			hold:  time.Duration(binary.BigEndian.Uint64(v[16:])),
		}
	case tagHeard:
		if short(heardLen) {
			return *err
		}
		h.heard = heardMsg{highest: binary.BigEndian.Uint32(v), window: v[4], count: v[5]}
	case tagSoftware:
		h.software, *err = name(v, MaxName)
	case tagSite:
		h.site, *err = name(v, MaxName)
	case tagNode:
		h.node, *err = name(v, MaxName)
	case tagSection:
		if short(sectionBase) {
			return *err
		}
		if len(h.sections) == MaxSections {
			return fmt.Errorf("%w: more than %d sections", ErrMalformed, MaxSections)
		}
		s := sectionMsg{fatal: v[0]&flagFatal != 0}
		copy(s.digest[:], v[1:])
		if s.name, *err = name(v[sectionBase:], MaxName); *err == nil {
			h.sections = append(h.sections, s)
		}
	case tagDuplicate:
		if short(1) || short(1+int(v[0])) {
			return *err
		}
		if h.duplicate[0], *err = name(v[1:1+int(v[0])], MaxName); *err == nil {
			h.duplicate[1], *err = name(v[1+int(v[0]):], MaxName)
		}
	}
	return *err
}

// name takes a string that will be shown to people: bounded and printable, so
// that a peer can't drive anybody's terminal.
func name(v []byte, limit int) (string, error) {
	if len(v) > limit {
		return "", fmt.Errorf("%w: a name of %d bytes", ErrMalformed, len(v))
	}
	if !utf8.Valid(v) || strings.ContainsFunc(string(v), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("%w: a name that can't be printed", ErrMalformed)
	}
	return string(v), nil
}
