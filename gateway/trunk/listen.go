package trunk

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// listen accepts connections until ctx ends. Where it can't listen, or accept, it
// tries again: the address may not be on the TUN yet, and the process may be out
// of file descriptors for a while.
func (p *Pool) listen(ctx context.Context) {
	told, backoff := false, time.Duration(0)
	for ctx.Err() == nil {
		err := p.accept(ctx, func() { told, backoff = false, 0 })
		if ctx.Err() != nil {
			return
		}
		if !told {
			p.cfg.Logger.Warn("can't accept trunks: trying again", "error", err)
			told = true
		}
		backoff = min(max(2*backoff, minBackoff), maxBackoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

// accept listens and accepts until something fails. It calls good after each success.
func (p *Pool) accept(ctx context.Context, good func()) error {
	lc := net.ListenConfig{Control: p.socket.control, KeepAliveConfig: keepAlive}
	l, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(p.cfg.Self, p.cfg.Port).String())
	if err != nil {
		return err
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	p.setListening(true)
	defer p.setListening(false)
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		good()
		p.welcome(nc.(*net.TCPConn))
	}
}

func (p *Pool) setListening(on bool) {
	p.mu.Lock()
	p.listening = on
	p.mu.Unlock()
	p.changed()
}

// welcome lets a connection wait for its first frame, if it may.
func (p *Pool) welcome(tcp *net.TCPConn) {
	defer p.changed()
	remote := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	c, err := newConn(p, tcp, remote)
	if err != nil {
		_ = tcp.Close() // it is closed: Run ends
		return
	}
	c.far = true
	p.mu.Lock()
	taken := p.peers[remote] && p.far < maxAccepted && p.add(c)
	if taken {
		p.far++
		p.accepted++
	} else {
		p.refused++
	}
	p.mu.Unlock()
	if !taken || !p.spawn(func() { p.await(c) }) {
		c.Close()
	}
}

// await hands a connection on when something has arrived on it.
func (p *Pool) await(c *Conn) {
	if err := c.peek(); err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	rtt := p.way(c.remote).rtt
	p.mu.Unlock()
	c.begin(rtt)
	p.changed()
	p.cfg.Accept(c)
}

var errNothingSaid = errors.New("closed before the first frame")

// peek waits until something can be read, and leaves it.
func (c *Conn) peek() error {
	var n int
	var err error
	var b [1]byte
	rerr := c.raw.Read(func(fd uintptr) (done bool) {
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case rerr != nil:
		return rerr
	case err != nil:
		return err
	case n == 0:
		return errNothingSaid
	}
	return nil
}
