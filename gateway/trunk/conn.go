package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Conn is a connection to another node. Send may be called by several goroutines,
// Receive by one at a time, all else by any. After an error from Send or Receive
// the connection is of no more use, and has to be closed.
type Conn struct {
	pool   *Pool
	tcp    *net.TCPConn
	raw    syscall.RawConn
	remote netip.Addr
	state  atomic.Int32 // one of the states below
	far    bool         // the other node has dialled it
	used   atomic.Bool  // somebody has it: it counts as in use

	acked  uint64        // runPace's: what was acknowledged when it looked last
	strain strain        // runPace's, too
	pace   atomic.Uint64 // the bound that it has set, in bytes per second; 0 is none

	sendMu sync.Mutex
	header [wire.FrameHeaderSize]byte
	parts  [2][]byte
	vec    net.Buffers // over parts: a field, so that no Send allocates it

	recvMu sync.Mutex
	in     inbuf
}

const (
	open      = iota
	finishing // nothing more is sent or received, but what is queued still goes
	closed
)

func newConn(p *Pool, tcp *net.TCPConn, remote netip.Addr) (*Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{pool: p, tcp: tcp, raw: raw, remote: remote}
	return c, nil
}

// Remote is the node at the other end.
func (c *Conn) Remote() netip.Addr { return c.remote }

// Send sends a frame. It blocks while the kernel has enough to send, until there is
// room or the connection ends; after Close or Finish it fails by net.ErrClosed.
// It keeps nothing of f.
func (c *Conn) Send(f *wire.Frame) error {
	if len(f.Payload) > wire.MaxFramePayload {
		return fmt.Errorf("send frame with %d bytes of payload: %w", len(f.Payload), wire.ErrFrame)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.state.Load() != open {
		return net.ErrClosed
	}
	c.parts[0] = wire.AppendFrameHeader(c.header[:0], f)
	if len(f.Payload) == 0 {
		_, err := c.tcp.Write(c.parts[0])
		return err
	}
	c.parts[1] = f.Payload
	c.vec = c.parts[:]
	_, err := c.vec.WriteTo(c.tcp)
	c.parts[1] = nil
	return err
}

// Close ends the connection at once: what is queued is discarded, and the other end
// is told by a RST. It may be called again.
func (c *Conn) Close() {
	if c.state.Swap(closed) == closed {
		return
	}
	// With a linger of 0 close(2) discards and resets. It fails on a dead
	// connection only, which needs none of it.
	_ = c.tcp.SetLinger(0)
	c.gone()
}

// Finish ends the connection after the frames that were sent, and does not wait for
// it. What the other end still says is discarded. The other end receives all frames,
// then io.EOF, unless it closes before.
func (c *Conn) Finish() {
	if !c.state.CompareAndSwap(open, finishing) {
		return
	}
	// A Receive under way returns; the goroutine that drains is the next reader.
	_ = c.tcp.SetReadDeadline(time.Unix(1, 0))
	if !c.pool.spawn(c.drain) {
		c.Close()
	}
}

// finishWait is how long after Finish the other end may take to close its side, until
// the rest is left to the kernel.
const finishWait = 10 * time.Second

// drain reads until the other end closes, too: a socket that is closed with bytes
// unread resets the connection, and the frames on their way with it.
func (c *Conn) drain() {
	c.sendMu.Lock() // the last frame is whole
	err := c.tcp.CloseWrite()
	c.sendMu.Unlock()
	c.recvMu.Lock() // whoever was reading has stopped; the buffer stays the reader's
	if derr := c.tcp.SetReadDeadline(time.Now().Add(finishWait)); err == nil {
		err = derr
	}
	c.recvMu.Unlock()
	scrap := make([]byte, 4096)
	for err == nil {
		_, err = c.tcp.Read(scrap)
	}
	if c.state.CompareAndSwap(finishing, closed) {
		c.gone()
	}
}

// gone closes the socket, once.
func (c *Conn) gone() {
	_ = c.tcp.Close() // its error says that the connection has failed, which is over now
	c.pool.forget(c)
}
