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
// none does, the kernel answers at once (ICMP port unreachable, RFC 1122 section
// 3.2.2.1), which distinguishes a killed process from a slow one. The question is an
// empty datagram, which a gateway ignores. It has a socket of its own, since the
// answer makes the next call on its socket fail.
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

// moved sets the peer's present endpoint.
func (k *knocker) moved(endpoint string) {
	if at, err := netip.ParseAddrPort(endpoint); err == nil {
		k.mu.Lock()
		k.at = at
		k.mu.Unlock()
	}
}

// refuse notes that a host refused a datagram to an endpoint.
func (k *knocker) refuse(to netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if to == k.at {
		k.refused = time.Now()
	}
}

// refusalCounts is how long a refusal proves that the process is gone: long enough to include those
// before the first knock, and too short to outlast a restart.
const refusalCounts = 250 * time.Millisecond

// knock asks again, and reports whether the host refused the knock before, or another datagram to
// the same endpoint lately.
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
