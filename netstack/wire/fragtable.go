package wire

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// ReassemblerConfig bounds what a Reassembler holds. A zero field takes its
// default.
type ReassemblerConfig struct {
	// MaxBytes bounds the memory of all that is held, bookkeeping included;
	// default 4 MiB. The oldest datagrams make room for a new fragment.
	MaxBytes int
	// MaxSourceBytes bounds the memory that one source address may occupy;
	// default 1 MiB. Its own oldest datagrams make room.
	MaxSourceBytes int
	// MaxFragments bounds the fragments of one datagram; default 64, enough for
	// 64 KiB at the smallest MTU of IPv6.
	MaxFragments int
	// Timeout is how long after its first fragment a datagram is given up;
	// default 30 s. RFC 791, section 3.2 suggests 15 s and RFC 8200, section
	// 4.5 asks for 60 s of an IPv6 host. A gateway is not the host: it holds on
	// for as long as Linux does, so that a datagram that the receiver's kernel
	// would still have put together is not lost here.
	Timeout time.Duration
}

func (c ReassemblerConfig) withDefaults() ReassemblerConfig {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.MaxBytes, 4<<20)
	set(&c.MaxSourceBytes, 1<<20)
	set(&c.MaxFragments, 64)
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	return c
}

// What the bookkeeping of a datagram and of a fragment costs, in bytes, rounded
// up: the structures, their list and map entries, and slack of the allocator.
// Without it many tiny fragments would hold many times MaxBytes.
const (
	fragDatagramCost = 768
	fragPieceCost    = 128
)

// Reassembled is a datagram in one piece.
type Reassembled struct {
	// Packet is the datagram with good header fields and checksum: the headers
	// of the first fragment, and for IPv6 without the fragment header. It may
	// be up to 65,575 bytes long. After FragWhole it belongs to the caller;
	// after FragAtomic it is the packet that was given to Add.
	Packet []byte
	// MaxFragment is the size in bytes of the largest fragment that it came in.
	// Who forwards it cuts it again to no more than that (RFC 791 lets routers
	// cut smaller, but the sender may have found out the path's MTU by itself;
	// for IPv6 nothing smaller than the sender's own choice is allowed).
	MaxFragment int
	// ID is the identification of its fragments, for cutting it again.
	ID uint32
}

// ReassemblerStats is a snapshot of a Reassembler.
type ReassemblerStats struct {
	Datagrams int    // held now, with those that were spoilt and wait for their time-out
	Bytes     int    // held now, bookkeeping included
	Whole     uint64 // datagrams put together
	Expired   uint64 // datagrams given up because a fragment was missing for too long
	Evicted   uint64 // datagrams given up to make room
}

// Reassembler puts the fragments of IPv4 (RFC 791, section 3.2) and IPv6 (RFC
// 8200, section 4.5) datagrams together again. It does no I/O, reads no clock
// and sends no ICMP: a time-out is for the receiving host to complain about.
// It is not safe for concurrent use.
//
// Fragments that overlap spoil their datagram in both families, unless one is
// an exact copy of another. What is held is bounded; under pressure the oldest
// datagrams go first, since a datagram that is completed at all mostly is
// so within milliseconds, and a flood then pushes out mainly itself.
//
// IPv4 identifications have only 16 bits and wrap within seconds at
// high rates: fragments of two datagrams can then be mixed (RFC 4963). Only the
// receiver's transport checksum finds that out, as everywhere.
type Reassembler struct {
	cfg       ReassemblerConfig
	datagrams map[fragKey]*fragDatagram
	sources   map[netip.Addr]*fragSource
	byAge     *list.List // of *fragDatagram, oldest first
	stats     ReassemblerStats
}

type fragSource struct {
	bytes int
	byAge *list.List // of *fragDatagram, oldest first
}

type fragDatagram struct {
	key           fragKey
	deadline      time.Duration
	bytes         int // what it counts against the limits
	spoilt        bool
	pieces        []fragPiece // by offset, never overlapping
	have          int         // payload bytes in pieces
	total         int         // payload bytes of the datagram; -1 until the last fragment came
	head          []byte      // of the first fragment
	nextAt        int
	next          uint8
	ecnSeen       uint8 // bit n: some fragment's ECN field was n
	maxFragment   int
	source        *fragSource
	inAll, inHost *list.Element
}

type fragPiece struct {
	offset  int
	payload []byte
}

// NewReassembler returns a Reassembler that holds nothing yet.
func NewReassembler(cfg ReassemblerConfig) *Reassembler {
	return &Reassembler{
		cfg:       cfg.withDefaults(),
		datagrams: make(map[fragKey]*fragDatagram),
		sources:   make(map[netip.Addr]*fragSource),
		byAge:     list.New(),
	}
}

// Stats returns a snapshot.
func (r *Reassembler) Stats() ReassemblerStats { return r.stats }

// Add takes a packet that arrived at now, any clock that doesn't step back. The
// Reassembled is set with FragWhole and FragAtomic only. Add copies what it
// keeps, so pkt may be used again at once.
func (r *Reassembler) Add(now time.Duration, pkt []byte) (Reassembled, FragResult) {
	r.Expire(now)
	f, res := fragParse(pkt)
	if res == FragAtomic {
		return Reassembled{Packet: pkt, MaxFragment: len(pkt)}, FragAtomic
	}
	if res != FragHeld {
		return Reassembled{}, res
	}
	d := r.datagrams[f.key]
	if d != nil {
		if d.spoilt {
			return Reassembled{}, FragOverlap
		}
		if res := d.judge(&f, r.cfg.MaxFragments); res != FragHeld {
			if res != FragDuplicate {
				r.spoil(d)
			}
			return Reassembled{}, res
		}
	}
	cost := fragPieceCost + len(f.payload)
	if d == nil {
		cost += fragDatagramCost
	}
	if f.offset == 0 {
		cost += len(f.head)
	}
	if !r.makeRoom(cost, f.key.src, d) {
		if d != nil {
			r.spoil(d) // it can't become whole any more
		}
		return Reassembled{}, FragNoSpace
	}
	if d == nil {
		d = r.open(f.key, now)
	}
	r.charge(d, cost)
	d.insert(&f)
	if d.have != d.total {
		return Reassembled{}, FragHeld
	}
	r.remove(d)
	whole, res := d.join()
	if res == FragWhole {
		r.stats.Whole++
	}
	return whole, res
}

// Expire drops what is past its time-out at now and returns how many
// datagrams that were. Add does it too; calling it now and then frees memory
// when fragments have ceased to arrive.
func (r *Reassembler) Expire(now time.Duration) int {
	n := 0
	for e := r.byAge.Front(); e != nil; e = r.byAge.Front() {
		d := e.Value.(*fragDatagram)
		if d.deadline > now {
			break
		}
		if !d.spoilt {
			n++
		}
		r.remove(d)
	}
	r.stats.Expired += uint64(n)
	return n
}

// judge reports how f fits to what is held of d.
func (d *fragDatagram) judge(f *fragment, maxFragments int) FragResult {
	i, same := slices.BinarySearchFunc(d.pieces, f.offset, func(p fragPiece, o int) int { return p.offset - o })
	if same && bytes.Equal(d.pieces[i].payload, f.payload) && f.more == (f.end() != d.total) {
		return FragDuplicate
	}
	switch {
	case same,
		i > 0 && d.pieces[i-1].end() > f.offset,
		i < len(d.pieces) && f.end() > d.pieces[i].offset,
		d.total >= 0 && (!f.more || f.end() > d.total),
		!f.more && len(d.pieces) > 0 && d.pieces[len(d.pieces)-1].end() > f.offset:
		return FragOverlap
	case len(d.pieces) >= maxFragments:
		return FragTooMany
	}
	return FragHeld
}

func (p *fragPiece) end() int { return p.offset + len(p.payload) }

// insert keeps a copy of f, which judge found to fit.
func (d *fragDatagram) insert(f *fragment) {
	i, _ := slices.BinarySearchFunc(d.pieces, f.offset, func(p fragPiece, o int) int { return p.offset - o })
	d.pieces = slices.Insert(d.pieces, i, fragPiece{f.offset, bytes.Clone(f.payload)})
	d.have += len(f.payload)
	d.ecnSeen |= 1 << f.ecn
	d.maxFragment = max(d.maxFragment, f.size)
	if f.offset == 0 {
		d.head, d.nextAt, d.next = bytes.Clone(f.head), f.nextAt, f.next
	}
	if !f.more {
		d.total = f.end()
	}
}

// join makes the datagram out of its pieces, which are complete.
func (d *fragDatagram) join() (Reassembled, FragResult) {
	ce := d.ecnSeen&(1<<fragECNCE) != 0
	if ce && d.ecnSeen&(1<<fragECNNotECT) != 0 {
		return Reassembled{}, FragECN
	}
	size := len(d.head) + d.total
	v4 := d.key.src.Is4()
	// The first fragment's header may be longer than that of the fragment whose
	// end was checked against the limit.
	if v4 && size > fragMaxDatagram || !v4 && size-fragIPv6HeaderLen > fragMaxDatagram {
		return Reassembled{}, FragTooLong
	}
	pkt := append(make([]byte, 0, size), d.head...)
	for i := range d.pieces {
		pkt = append(pkt, d.pieces[i].payload...)
	}
	if v4 {
		if ce {
			pkt[1] |= fragECNCE
		}
		fragSetIPv4(pkt[:len(d.head)], size, 0)
	} else {
		if ce {
			pkt[1] |= fragECNCE << 4
		}
		pkt[d.nextAt] = d.next
		binary.BigEndian.PutUint16(pkt[4:], uint16(size-fragIPv6HeaderLen))
	}
	return Reassembled{Packet: pkt, MaxFragment: d.maxFragment, ID: d.key.id}, FragWhole
}

// open begins a datagram.
func (r *Reassembler) open(key fragKey, now time.Duration) *fragDatagram {
	s := r.sources[key.src]
	if s == nil {
		s = &fragSource{byAge: list.New()}
		r.sources[key.src] = s
	}
	d := &fragDatagram{key: key, deadline: now + r.cfg.Timeout, total: -1, source: s}
	d.inAll, d.inHost = r.byAge.PushBack(d), s.byAge.PushBack(d)
	r.datagrams[key] = d
	r.stats.Datagrams++
	return d
}

// makeRoom evicts until cost more bytes of source src fit, sparing the datagram
// that they are for: it is the one of which most is known to arrive still.
func (r *Reassembler) makeRoom(cost int, src netip.Addr, spare *fragDatagram) bool {
	if s := r.sources[src]; s != nil && !r.evict(s.byAge, &s.bytes, r.cfg.MaxSourceBytes-cost, spare) {
		return false
	}
	return cost <= r.cfg.MaxSourceBytes && cost <= r.cfg.MaxBytes &&
		r.evict(r.byAge, &r.stats.Bytes, r.cfg.MaxBytes-cost, spare)
}

func (r *Reassembler) evict(from *list.List, held *int, limit int, spare *fragDatagram) bool {
	for e := from.Front(); e != nil && *held > limit; {
		d := e.Value.(*fragDatagram)
		e = e.Next()
		if d == spare {
			continue
		}
		r.remove(d)
		if !d.spoilt {
			r.stats.Evicted++
		}
	}
	return *held <= limit
}

// spoil frees what is held of d, but remembers its name until its time-out so
// that fragments still to come are dropped too.
func (r *Reassembler) spoil(d *fragDatagram) {
	d.spoilt = true
	d.pieces, d.head = nil, nil
	r.charge(d, fragDatagramCost-d.bytes)
}

func (r *Reassembler) charge(d *fragDatagram, bytes int) {
	d.bytes += bytes
	d.source.bytes += bytes
	r.stats.Bytes += bytes
}

func (r *Reassembler) remove(d *fragDatagram) {
	r.charge(d, -d.bytes)
	r.byAge.Remove(d.inAll)
	d.source.byAge.Remove(d.inHost)
	if d.source.byAge.Len() == 0 {
		delete(r.sources, d.key.src)
	}
	delete(r.datagrams, d.key)
	r.stats.Datagrams--
}
