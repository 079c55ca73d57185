package link

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// knocker asks a peer's host whether a process listens on the tunnel's port. Where
// none does, the kernel says so at once (ICMP port unreachable, RFC 1122 section
// 3.2.2.1), which tells a process that was killed from one that is merely slow.
// The question is an empty datagram, of which a gateway takes no notice. It has a
// socket of its own, since the answer makes the next call on its socket fail.
type knocker struct {
	mu   sync.Mutex
	at   netip.AddrPort // where the peer was last, as the loop knows
	conn *net.UDPConn   // to the place that it was dialled for
	to   netip.AddrPort
	done bool
	// refused is when a datagram to the peer was refused, of whatever socket; the
	// zero time is never. See refusal.go.
	refused time.Time
}

// moved says where the peer is now.
func (k *knocker) moved(endpoint string) {
	if at, err := netip.ParseAddrPort(endpoint); err == nil {
		k.mu.Lock()
		k.at = at
		k.mu.Unlock()
	}
}

// refuse takes note that nobody took a datagram to a place.
func (k *knocker) refuse(to netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if to == k.at {
		k.refused = time.Now()
	}
}

// refusalCounts is for how long a refusal says something of the present: since
// before the first knock at a peer that died, and not since its restart.
const refusalCounts = 250 * time.Millisecond

// knock asks once more, and reports whether the answer to the time before was
// that nobody listens, or to what else was sent there lately.
func (k *knocker) knock() (gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.refused.IsZero() && time.Since(k.refused) < refusalCounts {
		return true
	}
	if k.done || !k.at.IsValid() {
		return false
	}
	if k.conn == nil || k.to != k.at {
		k.hangUp()
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(k.at))
		if err != nil {
			return false // no route: nothing can be found out
		}
		k.conn, k.to = conn, k.at
	}
	if !errors.Is(k.ask(), unix.ECONNREFUSED) {
		return false
	}
	_ = k.ask() // the one before only brought the answer
	return true
}

// ask sends the question. It doesn't wait where the kernel has no room for it:
// many may hang on a host that doesn't answer ARP.
func (k *knocker) ask() error {
	raw, err := k.conn.SyscallConn()
	if err != nil {
		return err
	}
	errWrite := raw.Write(func(fd uintptr) bool {
		_, err = unix.Write(int(fd), nil)
		return true
	})
	return errors.Join(errWrite, err)
}

func (k *knocker) hangUp() {
	if k.conn != nil {
		_ = k.conn.Close()
		k.conn = nil
	}
}

func (k *knocker) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done = true
	k.hangUp()
}

// Knock asks the host of a peer, outside the tunnel, whether its process runs, and
// reports whether an earlier answer was no. It doesn't block, and may be called
// every few milliseconds. The answer is not authenticated, and not every network
// lets it pass.
func (l *Link) Knock(node string) (gone bool) {
	p := l.byName[node]
	return p != nil && p.knocker.knock()
}
