package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TransferConfig sets what bulk is moved between two namespaces over the
// kernel's TCP.
type TransferConfig struct {
	// From dials; To listens.
	From, To *Namespace
	// Addr is where To listens and From dials. Port 0 is any free one.
	Addr netip.AddrPort
	// Via, if set, is where From dials instead, for what hands the connection on to
	// Addr.
	Via netip.AddrPort
	// Source is the address that From dials from; the zero Addr leaves it to
	// the kernel.
	Source netip.Addr
	// Bytes goes from From to To, Back in reverse, on each flow.
	Bytes, Back int64
	// Flows is the number of parallel connections, at most 256; 0 is one.
	Flows int
	// Unhashed leaves out SHA-256, for benchmarks; lengths are still compared.
	Unhashed bool
	// Congestion is the kernel's congestion control; empty leaves its default.
	Congestion string
	// Socket, if set, sets options of the listening socket and of those that dial,
	// before they do. Accepted ones inherit most of them.
	Socket func(fd int) error
	// Multipath leaves Multipath TCP to both ends (RFC 8684).
	Multipath bool
}

// TransferResult is the result of a transfer.
type TransferResult struct {
	// Received is the sum over all flows and both directions, in bytes.
	Received int64
	// Duration is from before the first dial to the last byte.
	Duration time.Duration
	// LongestStall is the longest wait between two reads that a reader saw after
	// its first byte.
	LongestStall time.Duration
	// Stalls are the waits of stallFloor and more, of all readers, in no order.
	Stalls []Stall
	// Source is the dialling side's address as the listening side saw it.
	Source netip.Addr
}

// Stall is a wait of a reader between two reads.
type Stall struct {
	Began time.Time
	For   time.Duration
}

// stallFloor is the shortest wait that is kept in TransferResult.Stalls.
const stallFloor = 5 * time.Millisecond

// LongestWithin is the longest stall that lay wholly or in part between the two
// times; 0 when none did.
func (r TransferResult) LongestWithin(from, to time.Time) (longest time.Duration) {
	for _, s := range r.Stalls {
		if s.Began.Before(to) && s.Began.Add(s.For).After(from) {
			longest = max(longest, s.For)
		}
	}
	return longest
}

// Mbps is the rate of all flows and both directions together.
func (r TransferResult) Mbps() float64 {
	return float64(r.Received) * 8 / 1e6 / r.Duration.Seconds()
}

// Transfer is a transfer under way.
type Transfer struct {
	cfg      TransferConfig
	start    time.Time
	received atomic.Int64
	flows    []atomic.Int64 // of received, by flow
	stall    atomic.Int64
	source   atomic.Pointer[netip.Addr]
	done     chan struct{}
	res      TransferResult
	err      error

	mu      sync.Mutex
	stalls  []Stall
	marks   []mark
	nextHit atomic.Int64 // the lowest mark, so that readers needn't lock
}

type mark struct {
	bytes int64
	ch    chan struct{}
}

// RunTransfer is StartTransfer and Wait.
func RunTransfer(ctx context.Context, cfg TransferConfig) (TransferResult, error) {
	t, err := StartTransfer(ctx, cfg)
	if err != nil {
		return TransferResult{}, err
	}
	return t.Wait()
}

// StartTransfer listens, dials and starts to send in both directions. The end of
// ctx breaks the transfer off. The caller calls Wait.
func StartTransfer(ctx context.Context, cfg TransferConfig) (*Transfer, error) {
	if cfg.Flows == 0 {
		cfg.Flows = 1
	}
	if cfg.Flows > 256 {
		return nil, fmt.Errorf("transfer: %d flows, at most 256 have a number", cfg.Flows)
	}
	lc := net.ListenConfig{Control: OnSocket(cfg.Socket)}
	lc.SetMultipathTCP(cfg.Multipath)
	l, err := cfg.To.ListenWith(ctx, &lc, "tcp", cfg.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if err := setCongestion(l.(*net.TCPListener), cfg.Congestion); err != nil {
		return nil, errors.Join(fmt.Errorf("transfer: %w", err), l.Close())
	}
	cfg.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	t := &Transfer{cfg: cfg, start: time.Now(), done: make(chan struct{}), flows: make([]atomic.Int64, cfg.Flows)}
	t.nextHit.Store(noMark)
	go func() {
		defer close(t.done)
		t.err = t.run(ctx, l)
		t.res = TransferResult{
			Received: t.received.Load(), Duration: time.Since(t.start), LongestStall: time.Duration(t.stall.Load()),
		}
		t.mu.Lock()
		t.res.Stalls = t.stalls
		t.mu.Unlock()
		if s := t.source.Load(); s != nil {
			t.res.Source = *s
		}
	}()
	return t, nil
}

// Wait waits for the end of all flows and reports whether both ends agree on every
// byte.
func (t *Transfer) Wait() (TransferResult, error) {
	<-t.done
	if t.err != nil {
		return t.res, fmt.Errorf("transfer %s to %s, %d bytes received: %w", t.cfg.From.name, t.cfg.Addr, t.res.Received, t.err)
	}
	return t.res, nil
}

// Addr is where the transfer's listening side listens.
func (t *Transfer) Addr() netip.AddrPort { return t.cfg.Addr }

// Done is closed when the transfer has ended.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Received is the number of bytes received so far on all flows in both
// directions.
func (t *Transfer) Received() int64 { return t.received.Load() }

// ReceivedBy is Received of each flow.
func (t *Transfer) ReceivedBy() []int64 {
	by := make([]int64, len(t.flows))
	for i := range t.flows {
		by[i] = t.flows[i].Load()
	}
	return by
}

const noMark = int64(^uint64(0) >> 1)

// Reached returns when n bytes have been received, on all flows in both
// directions together, so that a test can act in the middle. It returns an error
// if the transfer ends or fails before that.
func (t *Transfer) Reached(n int64) error {
	m := mark{n, make(chan struct{})}
	t.mu.Lock()
	t.marks = append(t.marks, m)
	t.nextHit.Store(min(t.nextHit.Load(), n))
	t.mu.Unlock()
	t.progress(0)
	select {
	case <-m.ch:
		return nil
	case <-t.done:
		if t.Received() >= n {
			return nil
		}
		if _, err := t.Wait(); err != nil {
			return fmt.Errorf("waiting for %d bytes: %w", n, err)
		}
		return fmt.Errorf("the transfer ended without error after %d bytes, want %d", t.Received(), n)
	}
}

func (t *Transfer) progress(n int) {
	sum := t.received.Add(int64(n))
	if sum < t.nextHit.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next, left := noMark, t.marks[:0]
	for _, m := range t.marks {
		if sum >= m.bytes {
			close(m.ch)
		} else {
			left, next = append(left, m), min(next, m.bytes)
		}
	}
	t.marks = left
	t.nextHit.Store(next)
}

// run moves all flows. Connections are told apart by a flow number that the
// dialling side sends first.
func (t *Transfer) run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	// sums[dir][flow][end]: what the sender sent and what the receiver got.
	sums := [2][][2]string{make([][2]string, t.cfg.Flows), make([][2]string, t.cfg.Flows)}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	both := func(c net.Conn, flow, out int, send, recv int64) {
		var ends sync.WaitGroup
		ends.Go(func() {
			sum, err := t.send(c, uint64(out*t.cfg.Flows+flow), send)
			sums[out][flow][0] = sum
			fail(err)
		})
		ends.Go(func() {
			sum, err := t.receive(c, &t.flows[flow], recv)
			sums[1-out][flow][1] = sum
			fail(err)
		})
		ends.Wait()
	}
	for flow := range t.cfg.Flows {
		wg.Go(func() {
			c, err := l.Accept()
			if err != nil {
				fail(err)
				return
			}
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			t.source.Store(&from)
			var id [1]byte
			if _, err := io.ReadFull(c, id[:]); err != nil {
				fail(fmt.Errorf("read flow number: %w", err))
				return
			}
			both(c, int(id[0]), 1, t.cfg.Back, t.cfg.Bytes)
		})
		wg.Go(func() {
			d := net.Dialer{Control: OnSocket(t.cfg.Socket)}
			d.SetMultipathTCP(t.cfg.Multipath)
			if t.cfg.Source.IsValid() {
				d.LocalAddr = &net.TCPAddr{IP: t.cfg.Source.AsSlice()}
			}
			to := t.cfg.Addr
			if t.cfg.Via.IsValid() {
				to = t.cfg.Via
			}
			c, err := t.cfg.From.DialWith(ctx, &d, "tcp", to.String())
			if err != nil {
				fail(err)
				return
			}
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			err = setCongestion(c.(*net.TCPConn), t.cfg.Congestion)
			if err == nil {
				_, err = c.Write([]byte{byte(flow)})
			}
			if err != nil {
				fail(err)
				return
			}
			both(c, flow, 0, t.cfg.Bytes, t.cfg.Back)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for dir, flows := range sums {
		for flow, s := range flows {
			if s[0] != s[1] {
				return fmt.Errorf("flow %d, direction %d: sent %s, received %s", flow, dir, s[0], s[1])
			}
		}
	}
	return nil
}

// block is what one Write sends. Every 4 KB of it start with their own position
// in the stream, so that no piece can stand for another.
const block = 256 << 10

func (t *Transfer) send(c net.Conn, seed uint64, n int64) (string, error) {
	buf := make([]byte, block)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 'g', 'w'})
	if _, err := rnd.Read(buf); err != nil {
		return "", err
	}
	h := t.hash()
	for at := int64(0); at < n; {
		for i := 0; i < len(buf); i += 4096 {
			binary.BigEndian.PutUint64(buf[i:], uint64(at)+uint64(i))
		}
		b := buf[:min(int64(len(buf)), n-at)]
		if h != nil {
			h.Write(b)
		}
		w, err := c.Write(b)
		at += int64(w)
		if err != nil {
			return "", fmt.Errorf("send after %d of %d bytes: %w", at, n, err)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", fmt.Errorf("close after sending %d bytes: %w", n, err)
	}
	return sum(h, n), nil
}

func (t *Transfer) receive(c net.Conn, flow *atomic.Int64, want int64) (string, error) {
	buf := make([]byte, block)
	h := t.hash()
	var got int64
	var last time.Time
	for {
		n, err := c.Read(buf)
		if n > 0 {
			now := time.Now()
			if got > 0 {
				t.stalled(last, now.Sub(last))
			}
			last = now
			got += int64(n)
			if h != nil {
				h.Write(buf[:n])
			}
			flow.Add(int64(n))
			t.progress(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("receive after %d of %d bytes: %w", got, want, err)
		}
	}
	return sum(h, got), nil
}

func (t *Transfer) stalled(since time.Time, d time.Duration) {
	if d >= stallFloor {
		t.mu.Lock()
		t.stalls = append(t.stalls, Stall{since, d})
		t.mu.Unlock()
	}
	for {
		old := t.stall.Load()
		if int64(d) <= old || t.stall.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (t *Transfer) hash() hash.Hash {
	if t.cfg.Unhashed {
		return nil
	}
	return sha256.New()
}

func sum(h hash.Hash, n int64) string {
	if h == nil {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d bytes, sha256 %s", n, hex.EncodeToString(h.Sum(nil)))
}

// OnSocket makes a function on a socket what net wants; nil stays nil.
func OnSocket(set func(fd int) error) func(string, string, syscall.RawConn) error {
	if set == nil {
		return nil
	}
	return func(_, _ string, raw syscall.RawConn) error { return WithFD(raw, set) }
}

// WithFD does something with a socket.
func WithFD(raw syscall.RawConn, do func(fd int) error) error {
	var inner error
	err := raw.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}

// setCongestion chooses the kernel's congestion control; accepted connections
// inherit the listener's.
func setCongestion(c syscall.Conn, name string) error {
	if name == "" {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if err := WithFD(raw, func(fd int) error {
		return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	}); err != nil {
		return fmt.Errorf("congestion control %q: %w", name, err)
	}
	return nil
}
