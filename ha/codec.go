package ha

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The wire format of the election, integers in big endian. All messages begin
//
//	"gwe" | version 1 | kind 1 | boot 8 | sequence number 4
//
// and have a fixed size:
//
//	beat    role 1 | flags 1 | reach 1 | seen 8 | own claim 56 | your site's claim 56 |
//	        own proof 50 | your sibling's proof 50
//	ack     epoch 8
//	ask     boot, echo 16 | own proof 50
//	answer  boot, echo 16 | flags 1 | role 1 | age in ms 4 | your site's claim 56 |
//	        your sibling's proof 50
//	yield   epoch 8 | flags 1 | reason 1
//	refuse  epoch 8 | reason 1
//
// where a claim is epoch 8 | node 32 | tag 16, and a proof is boot 8 | uptime in µs 8 |
// role 1 | flags 1 | echoed boot 8 | echoed uptime 8 | tag 16. Version 2 added the tags
// and the proofs.
const (
	// Magic is how every payload of a Machine begins, so that its owner can distinguish
	// them from others on the same port.
	Magic = "gwe"
	// Version of the election's wire format.
	Version = 2
	// MaxPayload is the largest payload of a Machine, in bytes.
	MaxPayload = headerLen + beatLen

	headerLen  = 17
	claimLen   = 40 + TagSize
	proofLen   = 34 + TagSize
	beatLen    = 11 + 2*claimLen + 2*proofLen
	ackLen     = 8
	askLen     = 16 + proofLen
	answerLen  = 16 + 6 + claimLen + proofLen
	yieldLen   = 10
	refuseLen  = 9
	unknownAge = 1<<32 - 1
)

type msgKind uint8

const (
	msgBeat msgKind = iota + 1
	msgAck
	msgAsk
	msgAnswer
	msgYield
	msgRefuse
)

var bodyLen = [...]int{msgBeat: beatLen, msgAck: ackLen, msgAsk: askLen, msgAnswer: answerLen, msgYield: yieldLen, msgRefuse: refuseLen}

const (
	flagLAN      = 1 << iota // beat: the LAN interface works
	flagPlane                // beat: the data plane makes progress
	flagRecords              // beat: the records are in sync
	flagHearsYou             // beat: the sender receives the receiver's messages
	flagWantAck              // beat: acknowledge the claim
	beatFlags    = 1<<iota - 1

	flagSilent  = 1 // answer: the asker's sibling is silent
	answerFlags = flagSilent

	flagForced = 1 // yield: take over in any state
)

// Errors of Handle.
var (
	ErrMalformed = errors.New("malformed message")
	ErrVersion   = errors.New("message of another version")
	ErrStranger  = errors.New("message from a node that is not configured")
	ErrOld       = errors.New("message from before the node's restart, or repeated")
)

// VersionError reports a message of another version of the election's protocol.
type VersionError struct{ Theirs uint8 }

func (e *VersionError) Error() string {
	older := "this node's"
	if e.Theirs < Version {
		older = "that node's"
	}
	return fmt.Sprintf("election protocol version %d, and this node has version %d: upgrade %s gw", e.Theirs, Version, older)
}

// Unwrap makes a VersionError an ErrVersion.
func (e *VersionError) Unwrap() error { return ErrVersion }

// message is any message; kind determines which fields have a meaning.
type message struct {
	kind  msgKind
	boot  uint64
	seq   uint32
	role  Role
	flags uint8
	reach uint8
	seen  uint64
	own   Claim
	yours Claim

	ownTag   Tag
	yoursTag Tag
	proof    proof // the sender's own
	sibs     proof // of the receiver's sibling

	epoch     uint64
	echo      uint64
	echoBoot  uint64
	age       uint32 // ms
	reasonNum uint8
}

func appendClaim(b []byte, c Claim, tag Tag) []byte {
	return append(append(binary.BigEndian.AppendUint64(b, c.Epoch), c.Node[:]...), tag[:]...)
}

func readClaim(b []byte) (c Claim, tag Tag) {
	c.Epoch = binary.BigEndian.Uint64(b)
	copy(c.Node[:], b[8:])
	copy(tag[:], b[40:])
	return c, tag
}

// appendProof appends a proof without its tag.
func appendProof(b []byte, p *proof) []byte {
	be := binary.BigEndian
	b = be.AppendUint64(b, p.boot)
	b = be.AppendUint64(b, p.uptime)
	b = append(b, byte(p.role), p.flags)
	b = be.AppendUint64(b, p.echoBoot)
	return be.AppendUint64(b, p.echo)
}

func appendTagged(b []byte, p *proof) []byte { return append(appendProof(b, p), p.tag[:]...) }

func readProof(b []byte) (p proof) {
	be := binary.BigEndian
	p.boot, p.uptime, p.role, p.flags = be.Uint64(b), be.Uint64(b[8:]), Role(b[16]), b[17]
	p.echoBoot, p.echo = be.Uint64(b[18:]), be.Uint64(b[26:])
	copy(p.tag[:], b[34:])
	return p
}

func appendMessage(b []byte, m *message) []byte {
	be := binary.BigEndian
	b = append(b, Magic...)
	b = append(b, Version, byte(m.kind))
	b = be.AppendUint64(b, m.boot)
	b = be.AppendUint32(b, m.seq)
	switch m.kind {
	case msgBeat:
		b = append(b, byte(m.role), m.flags, m.reach)
		b = be.AppendUint64(b, m.seen)
		b = appendClaim(b, m.own, m.ownTag)
		b = appendClaim(b, m.yours, m.yoursTag)
		b = appendTagged(b, &m.proof)
		b = appendTagged(b, &m.sibs)
	case msgAck:
		b = be.AppendUint64(b, m.epoch)
	case msgAsk, msgAnswer:
		b = be.AppendUint64(b, m.echoBoot)
		b = be.AppendUint64(b, m.echo)
		if m.kind == msgAsk {
			b = appendTagged(b, &m.proof)
		} else {
			b = append(b, m.flags, byte(m.role))
			b = be.AppendUint32(b, m.age)
			b = appendClaim(b, m.yours, m.yoursTag)
			b = appendTagged(b, &m.sibs)
		}
	case msgYield:
		b = be.AppendUint64(b, m.epoch)
		b = append(b, m.flags, m.reasonNum)
	case msgRefuse:
		b = be.AppendUint64(b, m.epoch)
		b = append(b, m.reasonNum)
	}
	return b
}

func decode(b []byte, m *message) error {
	if len(b) < headerLen || string(b[:3]) != Magic {
		return fmt.Errorf("%w: no header", ErrMalformed)
	}
	if b[3] != Version {
		return &VersionError{Theirs: b[3]}
	}
	be := binary.BigEndian
	*m = message{kind: msgKind(b[4]), boot: be.Uint64(b[5:]), seq: be.Uint32(b[13:])}
	if int(m.kind) >= len(bodyLen) || m.kind == 0 || len(b) != headerLen+bodyLen[m.kind] {
		return fmt.Errorf("%w: kind %d of %d bytes", ErrMalformed, m.kind, len(b))
	}
	v := b[headerLen:]
	switch m.kind {
	case msgBeat:
		m.role, m.flags, m.reach = Role(v[0]), v[1], v[2]
		m.seen = be.Uint64(v[3:])
		v = v[11:]
		m.own, m.ownTag = readClaim(v)
		m.yours, m.yoursTag = readClaim(v[claimLen:])
		v = v[2*claimLen:]
		m.proof, m.sibs = readProof(v), readProof(v[proofLen:])
		if m.flags&^beatFlags != 0 {
			return fmt.Errorf("%w: flags %#x", ErrMalformed, m.flags)
		}
	case msgAck:
		m.epoch = be.Uint64(v)
	case msgAsk:
		m.echoBoot, m.echo, m.proof = be.Uint64(v), be.Uint64(v[8:]), readProof(v[16:])
	case msgAnswer:
		m.echoBoot, m.echo = be.Uint64(v), be.Uint64(v[8:])
		m.flags, m.role, m.age = v[16], Role(v[17]), be.Uint32(v[18:])
		m.yours, m.yoursTag = readClaim(v[22:])
		m.sibs = readProof(v[22+claimLen:])
	case msgYield:
		m.epoch, m.flags, m.reasonNum = be.Uint64(v), v[8], v[9]
	case msgRefuse:
		m.epoch, m.reasonNum = be.Uint64(v), v[8]
	}
	if m.role > Suspended || int(m.reasonNum) >= len(reasonCodes) || m.kind == msgAnswer && m.flags&^answerFlags != 0 ||
		m.kind == msgYield && m.flags&^flagForced != 0 {
		return fmt.Errorf("%w: role %d, flags %#x, reason %d", ErrMalformed, m.role, m.flags, m.reasonNum)
	}
	return nil
}
