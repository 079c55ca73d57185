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
// peers. Safe for concurrent use.
type ownIndices struct {
	mu   sync.RWMutex
	set  map[uint32]struct{}
	ring [maxOwnIndices]uint32
	n    int
}

func (o *ownIndices) add(index uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.set[index]; ok {
		return
	}
	if o.set == nil {
		o.set = make(map[uint32]struct{}, 16)
	}
	at := o.n % maxOwnIndices
	if o.n >= maxOwnIndices {
		delete(o.set, o.ring[at])
	}
	o.ring[at] = index
	o.set[index] = struct{}{}
	o.n++
}

func (o *ownIndices) has(index uint32) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	_, ok := o.set[index]
	return ok
}

// Limits of nudging. The map of sources is bounded because anyone can make up
// source addresses; when it is full it starts anew, and the limit on all
// nudges together still holds.
const (
	nudgesPerSecond   = 10
	nudgeSourceEvery  = time.Second
	maxNudgedSources  = 256
	maxNudgeTargets   = 256
	nudgeSessionValid = 3 * time.Minute // REJECT_AFTER_TIME: no session outlives it
)

// nudger limits the nudges that a responder sends. Safe for concurrent use.
type nudger struct {
	mu    sync.Mutex
	total *rate.Limiter
	last  map[netip.Addr]time.Time
}

func newNudger() *nudger {
	return &nudger{
		total: rate.NewLimiter(nudgesPerSecond, nudgesPerSecond),
		last:  make(map[netip.Addr]time.Time),
	}
}

// allow says whether a nudge may be sent to an address now, and counts it.
func (n *nudger) allow(to netip.Addr, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.last[to]; ok && now.Sub(last) < nudgeSourceEvery {
		return false
	}
	if !n.total.AllowN(now, 1) {
		return false
	}
	if len(n.last) >= maxNudgedSources {
		clear(n.last)
	}
	n.last[to] = now
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

// accept says whether a nudge from an address is to be believed: it quotes a
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
	case !t.last.IsZero() && now.Sub(t.last) < nudgeSourceEvery:
		return false
	}
	t.last = now
	return true
}
