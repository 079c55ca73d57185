package status

import (
	"net"
	"net/netip"
	"sync"
)

// maxConns is how many connections the status server has at a time.
const maxConns = 128

// crowd is a listener with at most so many open connections. When there is no room, it closes the
// oldest connection of the address that has the most: a client that opens many connections to keep
// others out loses its own.
type crowd struct {
	net.Listener
	most int

	mu    sync.Mutex
	conns []*member // the oldest first
}

// member is a connection of a crowd.
type member struct {
	net.Conn
	from netip.Prefix
	in   *crowd
	once sync.Once
}

func newCrowd(l net.Listener, most int) *crowd { return &crowd{Listener: l, most: most} }

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m := &member{Conn: conn, from: Origin(conn.RemoteAddr().String()), in: c}
	c.mu.Lock()
	c.conns = append(c.conns, m)
	var crowded *member
	if len(c.conns) > c.most {
		crowded = c.crowded()
	}
	c.mu.Unlock()
	if crowded != nil {
		_ = crowded.Close() // it is being given up
	}
	return m, nil
}

// crowded returns the oldest connection of the address with the most.
func (c *crowd) crowded() *member {
	count := map[netip.Prefix]int{}
	for _, m := range c.conns {
		count[m.from]++
	}
	oldest := c.conns[0]
	for _, m := range c.conns {
		if count[m.from] > count[oldest.from] {
			oldest = m
		}
	}
	return oldest
}

// Close implements net.Conn.
func (m *member) Close() error {
	m.once.Do(func() {
		m.in.mu.Lock()
		defer m.in.mu.Unlock()
		for i, other := range m.in.conns {
			if other == m {
				m.in.conns = append(m.in.conns[:i], m.in.conns[i+1:]...)
				break
			}
		}
	})
	return m.Conn.Close()
}

// Origin is what counts as one client, of a remote address with port: an IPv4 address, an IPv6
// network of 64 bits, or all of the machine's own addresses together. It is the zero Prefix for
// what is none.
func Origin(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a := at.Addr().Unmap().WithZone("")
	bits := a.BitLen()
	switch {
	case a.IsLoopback() && a.Is4():
		bits = 8
	case a.Is6():
		bits = 64
	}
	p, _ := a.Prefix(bits) // bits fit the family
	return p
}
