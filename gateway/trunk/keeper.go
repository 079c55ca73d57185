package trunk

import (
	"context"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Dials go out side by side, so that a burst is made up for in few round trips.
	maxDials    = 8
	dialTimeout = 3 * time.Second
	// How long nothing is dialled after a failure: doubled with each.
	minBackoff, maxBackoff = 50 * time.Millisecond, 2 * time.Second
	// sweepEvery is how often lost connections are looked for that nobody takes, and
	// how long after a burst fewer are kept.
	sweepEvery = 5 * time.Second
)

// keeper keeps connections to one node. What is below the line belongs to the
// Pool's lock.
type keeper struct {
	pool   *Pool
	node   netip.Addr
	kicked chan struct{} // holds a token when run is to look
	cancel context.CancelFunc

	gone bool
	idle []*Conn // the last one is taken first, the first one given up
	want int     // how many there ought to be
	low  int     // the fewest there were since the last sweep
}

func newKeeper(p *Pool, node netip.Addr) *keeper {
	return &keeper{
		pool: p, node: node, kicked: make(chan struct{}, 1), cancel: func() {}, want: p.cfg.Warm,
	}
}

func (k *keeper) kick() {
	select {
	case k.kicked <- struct{}{}:
	default:
	}
}

// stop ends the keeper and returns the connections that it had.
func (k *keeper) stop() (idle []*Conn) {
	k.gone = true
	k.cancel()
	idle, k.idle = k.idle, nil
	return idle
}

// take gives a connection that is alive, and the dead ones met on the way.
func (k *keeper) take() (c *Conn, dead []*Conn) {
	for len(k.idle) > 0 && c == nil {
		last := len(k.idle) - 1
		c, k.idle[last] = k.idle[last], nil
		k.idle = k.idle[:last]
		if !c.quiet() {
			k.pool.lost++
			dead = append(dead, c)
			c = nil
		}
	}
	if c == nil {
		k.pool.missed++
	} else {
		c.begin(k.pool.way(k.node).rtt)
	}
	k.low = min(k.low, len(k.idle))
	if len(k.idle) < k.want/2 {
		// They are taken faster than a few dials make up for.
		k.want = min(2*k.want, MaxWarm)
	}
	return c, dead
}

// quiet reports whether the connection stands and nothing has been said: the end
// that was dialled never speaks first.
func (c *Conn) quiet() bool {
	var err error
	var b [1]byte
	cerr := c.raw.Control(func(fd uintptr) {
		_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return cerr == nil && err == unix.EAGAIN
}

// missing is how many connections there are too few.
func (k *keeper) missing() int {
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	return k.want - len(k.idle)
}

// run dials what is missing until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	done := make(chan bool, maxDials)
	var retry <-chan time.Time
	dialling, backoff := 0, time.Duration(0)
	for {
		for retry == nil && dialling < k.missing() && (dialling == 0 || backoff == 0 && dialling < maxDials) {
			if !k.pool.spawn(func() { done <- k.dial(ctx) }) {
				return
			}
			dialling++
		}
		select {
		case <-ctx.Done():
			return // the dials end by ctx, too, and done has room for all
		case <-k.kicked:
		case <-tick.C:
			k.sweep()
		case <-retry:
			retry = nil
		case ok := <-done:
			dialling--
			switch {
			case ok:
				backoff = 0
			case retry == nil:
				// While it is set, the failures are of one volley.
				backoff = min(max(2*backoff, minBackoff), maxBackoff)
				retry = time.After(backoff)
			}
		}
	}
}

// dial makes one connection, and reports whether it did.
func (k *keeper) dial(ctx context.Context) bool {
	p := k.pool
	d := net.Dialer{
		Timeout: dialTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.cfg.Self, 0)),
		Control: p.socket.control, KeepAliveConfig: keepAlive,
	}
	nc, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(k.node, p.cfg.Port).String())
	defer p.changed()
	var c *Conn
	if err == nil {
		if c, err = newConn(p, nc.(*net.TCPConn), k.node); err != nil {
			_ = nc.Close()
		}
	}
	p.mu.Lock()
	if err != nil {
		if ctx.Err() == nil {
			p.failed++
		}
		p.mu.Unlock()
		return false
	}
	kept := !k.gone && p.add(c)
	if kept {
		p.dialled++
		k.idle = append(k.idle, c)
	}
	p.mu.Unlock()
	if !kept {
		c.Close()
	}
	return true
}

// sweep gives up connections that are lost or of another way, and those that have not
// been needed since the last time.
func (k *keeper) sweep() {
	p := k.pool
	var gone []*Conn
	p.mu.Lock()
	alive, rtt := k.idle[:0], p.way(k.node).rtt
	for _, c := range k.idle {
		switch {
		case !c.quiet():
			p.lost++
			gone = append(gone, c)
		case !c.fits(rtt):
			gone = append(gone, c)
		default:
			alive = append(alive, c)
		}
	}
	clear(k.idle[len(alive):])
	k.idle = alive
	if k.low > k.want/2 {
		k.want = max(p.cfg.Warm, k.want/2)
	}
	if n := len(k.idle) - k.want; n > 0 {
		gone = append(gone, k.idle[:n]...)
		k.idle = append([]*Conn(nil), k.idle[n:]...)
	}
	k.low = len(k.idle)
	p.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
	p.changed()
}
