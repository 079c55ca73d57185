package bind

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A nudge tells a dialler that the session which it sends to is not known
// here, most likely because this process is younger than the session. Eight
// bytes, fewer than the message it answers:
//
//	0  0xf7 'g' 'w'  no WireGuard message type begins so
//	3  version       1
//	4  index         the unknown receiver index, u32 little-endian
//
// It proves nothing but that its author saw a packet of the session, and the
// worst that a forged one does is one handshake a second. A stock WireGuard
// peer ignores it for its length.
const (
	nudgeSize    = 8
	nudgeVersion = 1
)

var nudgeMagic = [3]byte{0xf7, 'g', 'w'}

func appendNudge(b []byte, index uint32) []byte {
	b = append(b, nudgeMagic[:]...)
	b = append(b, nudgeVersion)
	return binary.LittleEndian.AppendUint32(b, index)
}

// looksLikeNudge reports whether a datagram is a nudge of any version.
func looksLikeNudge(m []byte) bool {
	return len(m) >= len(nudgeMagic) && [3]byte(m) == nudgeMagic
}

// parseNudge returns the index that a nudge quotes. It refuses other versions.
func parseNudge(m []byte) (index uint32, ok bool) {
	if len(m) != nudgeSize || !looksLikeNudge(m) || m[3] != nudgeVersion {
		return 0, false
	}
	return binary.LittleEndian.Uint32(m[4:]), true
}

// maxOwnIndices bounds the memory of own session indices. wireguard-go makes
// one per handshake message and uses it for three minutes at most, so this
// lasts for 340 handshakes a minute.
const maxOwnIndices = 1024

// ownIndices remembers the session indices that this process has told its
// peers, and which peer each is for. Safe for concurrent use.
type ownIndices struct {
	mu   sync.RWMutex
	set  map[uint32]int // the peer, by the order of Config.Peers
	ring [maxOwnIndices]uint32
	n    int
}

func (o *ownIndices) add(index uint32, peer int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.set[index]; ok {
		return
	}
	if o.set == nil {
		o.set = make(map[uint32]int, 16)
	}
	at := o.n % maxOwnIndices
	if o.n >= maxOwnIndices {
		delete(o.set, o.ring[at])
	}
	o.ring[at] = index
	o.set[index] = peer
	o.n++
}

// peer returns the peer that an index is for, and whether it is one of this process.
func (o *ownIndices) peer(index uint32) (peer int, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	peer, ok = o.set[index]
	return peer, ok
}

// Limits of nudging. A responder without keys can't tell a dialler from a stranger that
// makes up sources and sessions: they share the limit on all nudges together. It leaves a
// dialler that sends ten times a second about one nudge a second amid 5,000 forged
// datagrams a second. A nudge is shorter than what it answers, so it amplifies nothing. The
// map of sessions is bounded; a full one is cleared.
const (
	nudgesPerSecond   = 1000
	nudgeSessionEvery = time.Second
	maxNudgedSessions = 1024
	nudgeTargetEvery  = time.Second
	maxNudgeTargets   = 256
	nudgeSessionValid = 3 * time.Minute // REJECT_AFTER_TIME: no session outlives it
)

// nudger limits the nudges that a responder sends. Safe for concurrent use.
type nudger struct {
	mu    sync.Mutex
	total *rate.Limiter
	last  map[nudgedSession]time.Time
}

// nudgedSession is where a nudge goes and what it quotes. A datagram with a forged source
// and another index uses up nothing of the dialler's at that source.
type nudgedSession struct {
	to    netip.AddrPort
	index uint32
}

func newNudger() *nudger {
	return &nudger{
		total: rate.NewLimiter(nudgesPerSecond, nudgesPerSecond),
		last:  make(map[nudgedSession]time.Time),
	}
}

// allow reports whether a nudge about a session may be sent to an address now, and counts it.
func (n *nudger) allow(to netip.AddrPort, index uint32, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := nudgedSession{to, index}
	if last, ok := n.last[s]; ok && now.Sub(last) < nudgeSessionEvery {
		return false
	}
	if !n.total.AllowN(now, 1) {
		return false
	}
	if len(n.last) >= maxNudgedSessions {
		clear(n.last)
	}
	n.last[s] = now
	return true
}

// nudged judges the nudges that a dialler receives: it knows to which
// addresses it has sent transport messages of which sessions. Safe for
// concurrent use.
type nudged struct {
	mu      sync.Mutex
	targets map[netip.AddrPort]*nudgeTarget
}

type nudgeTarget struct {
	// The session sent to, and the one before: a nudge may have crossed a
	// rekeying on its way.
	index, previous uint32
	since           time.Time // when index was first sent to
	last            time.Time // of the last nudge accepted
}

// sent takes note that transport messages for a session of the peer's go to an
// address. It need be told of changes only.
func (n *nudged) sent(to netip.AddrPort, index uint32, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.targets[to]
	if !ok {
		if n.targets == nil || len(n.targets) >= maxNudgeTargets {
			n.targets = make(map[netip.AddrPort]*nudgeTarget)
		}
		t = &nudgeTarget{previous: index}
		n.targets[to] = t
	} else if t.index == index {
		return
	} else {
		t.previous = t.index
	}
	t.index = index
	t.since = now
}

// accept reports whether a nudge from an address is credible: it quotes a
// session that has lately been sent to there, and is the first in a second.
func (n *nudged) accept(from netip.AddrPort, index uint32, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.targets[from]
	switch {
	case !ok, index != t.index && index != t.previous:
		return false
	case now.Sub(t.since) > nudgeSessionValid:
		return false
	case !t.last.IsZero() && now.Sub(t.last) < nudgeTargetEvery:
		return false
	}
	t.last = now
	return true
}
