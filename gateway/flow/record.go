package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// A record is what has to be known of a flow to carry it on: by this process
// after a restart, by its sibling, by the gateway of the other site. It says
// the same on all of them, so that no node's view (near, far) is in it.
//
// Version 2, big endian, 25 bytes, and its key is the 38 bytes in front:
//
//	a 16 | b 16 | port a 2 | port b 2 | protocol 1 | IPv6 1
//	version 1 | flags 1 | phase 1 | opened, ms since 1970 8
//	opener: scale 1, end 4 | called: scale 1, end 4
//	opener: mss 2 | called: mss 2
//
// Version 1 lacks the last line, and its connections are never relayed.
const (
	recordVersion = 2
	keySize       = 38
	recordSize    = 25
	recordSize1   = 21
)

const (
	recOpenerB  = 1 << iota // the end b opened it
	recReplied              // the called end has answered
	recTrusted              // both scales are known
	recKnown0               // the opener's position is known
	recKnown1               // the called end's
	recPlain                // it may be relayed
	recSACK                 // both ends permit SACK
	recAllFlags = 1<<iota - 1
)

// ErrRecord is wrapped by every error about a record that can't be read.
var ErrRecord = errors.New("bad flow record")

func (k *key) append(b []byte) []byte {
	b = append(b, k.a[:]...)
	b = append(b, k.b[:]...)
	b = binary.BigEndian.AppendUint16(b, k.pa)
	b = binary.BigEndian.AppendUint16(b, k.pb)
	v6 := byte(0)
	if k.v6 {
		v6 = 1
	}
	return append(b, k.proto, v6)
}

func parseKey(b []byte) (k key, err error) {
	if len(b) != keySize || b[37] > 1 {
		return k, fmt.Errorf("%w: key of %d bytes", ErrRecord, len(b))
	}
	copy(k.a[:], b)
	copy(k.b[:], b[16:])
	k.pa, k.pb = binary.BigEndian.Uint16(b[32:]), binary.BigEndian.Uint16(b[34:])
	k.proto, k.v6 = b[36], b[37] == 1
	if k.proto != wire.ProtoTCP && k.proto != wire.ProtoUDP {
		return k, fmt.Errorf("%w: protocol %d, of which none are kept", ErrRecord, k.proto)
	}
	if sorted := k; sorted.order() {
		return k, fmt.Errorf("%w: ends out of order", ErrRecord)
	}
	if !k.v6 && ([12]byte(k.a[4:]) != [12]byte{} || [12]byte(k.b[4:]) != [12]byte{}) {
		return k, fmt.Errorf("%w: an IPv4 address of 16 bytes", ErrRecord)
	}
	return k, nil
}

// appendRecord appends the flow's record and notes what it says.
func (f *flow) appendRecord(b []byte) []byte {
	f.noted.kept = true
	f.noted.phase = f.tcp.Lasting()
	var flags byte
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(f.openerB, recOpenerB)
	set(f.replied, recReplied)
	if f.key.proto == wire.ProtoTCP {
		t := &f.tcp
		at := t.Recorded()
		set(t.RecordTrusted(), recTrusted)
		set(at[0].Known, recKnown0)
		set(at[1].Known, recKnown1)
		set(f.carriage.plain && t.RecordTrusted(), recPlain)
		set(t.SACK() && t.RecordTrusted(), recSACK)
		f.noted.end = [2]uint32{t.End(0), t.End(1)}
	}
	b = append(b, recordVersion, flags, byte(f.tcp.Lasting()))
	b = binary.BigEndian.AppendUint64(b, uint64(f.openedW.UnixMilli()))
	for i := range 2 {
		b = append(b, f.tcp.Scale(i))
		b = binary.BigEndian.AppendUint32(b, f.tcp.End(i))
	}
	for i := range 2 {
		b = binary.BigEndian.AppendUint16(b, f.tcp.MSS(i))
	}
	return b
}

// parseRecord reads key and value of a record into a flow. Which side is the
// local one, the rule and the site are left to the table that takes it in.
func parseRecord(kb, b []byte) (*flow, error) {
	k, err := parseKey(kb)
	if err != nil {
		return nil, err
	}
	f := &flow{key: k}
	return f, f.parse(b)
}

// parse reads the value of a record.
func (f *flow) parse(b []byte) error {
	old := len(b) == recordSize1 && b[0] == 1
	switch {
	case old && b[1]&(recPlain|recSACK) == 0:
		b = append(b[:recordSize1:recordSize1], 0, 0, 0, 0)
	case old || len(b) < 1 || b[0] != recordVersion:
		return fmt.Errorf("%w: of another version", ErrRecord)
	case len(b) != recordSize || b[1]&^recAllFlags != 0:
		return fmt.Errorf("%w: of %d bytes", ErrRecord, len(b))
	}
	f.openerB, f.replied = b[1]&recOpenerB != 0, b[1]&recReplied != 0
	ms := binary.BigEndian.Uint64(b[3:])
	if ms > 1<<48 {
		return fmt.Errorf("%w: opened in the far future", ErrRecord)
	}
	f.openedW = time.UnixMilli(int64(ms))
	if f.key.proto != wire.ProtoTCP {
		if b[1]&^(recOpenerB|recReplied) != 0 || b[2] != 0 || [14]byte(b[11:]) != [14]byte{} {
			return fmt.Errorf("%w: what only TCP has, for protocol %d", ErrRecord, f.key.proto)
		}
		return nil
	}
	ph := tcptrack.Phase(b[2])
	switch {
	case ph == tcptrack.None || ph > tcptrack.Reset:
		return fmt.Errorf("%w: no TCP state %d", ErrRecord, b[2])
	case b[11] > 14 || b[16] > 14:
		return fmt.Errorf("%w: window scales %d and %d, at most 14 can be", ErrRecord, b[11], b[16])
	case ph == tcptrack.SynSent && b[1]&(recTrusted|recKnown1) != 0:
		return fmt.Errorf("%w: more than a SYN tells", ErrRecord)
	case b[1]&(recPlain|recSACK) != 0 && b[1]&recTrusted == 0:
		return fmt.Errorf("%w: options without scales", ErrRecord)
	}
	f.carriage.plain = b[1]&recPlain != 0
	f.tcp.Resume(ph, b[1]&recTrusted != 0, [2]tcptrack.End{
		{
			Known: b[1]&recKnown0 != 0, Scale: b[11], Seq: binary.BigEndian.Uint32(b[12:]),
			MSS: binary.BigEndian.Uint16(b[21:]), SACK: b[1]&recSACK != 0,
		},
		{
			Known: b[1]&recKnown1 != 0, Scale: b[16], Seq: binary.BigEndian.Uint32(b[17:]),
			MSS: binary.BigEndian.Uint16(b[23:]), SACK: b[1]&recSACK != 0,
		},
	})
	return nil
}
