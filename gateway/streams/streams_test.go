package streams

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/streams/streamstest"
)

// TestHeader: the bytes on the wire stay as they are.
func TestHeader(t *testing.T) {
	b := AppendHeader([]byte("x"), "gwqu", 1, 7)
	if want := "xgwqu\x00\x01\x07"; string(b) != want {
		t.Fatalf("%q, want %q", b, want)
	}
	if own, err := ReadHeader(iotest.OneByteReader(bytes.NewReader(b[1:])), "gwqu", 1); own != 7 || err != nil {
		t.Errorf("%d, %v", own, err)
	}
	for _, c := range []struct {
		name, b string
		want    error
		says    string
	}{
		{"nothing", "", io.EOF, "read the header"},
		{"a part", "gwqu", io.ErrUnexpectedEOF, "read the header"},
		{"another magic", "gwan\x00\x01\x00", ErrProtocol, `"gwan"`},
		{"another version", "gwqu\x01\x02\x00", ErrVersion, "version 258 there, 1 here"},
	} {
		if _, err := ReadHeader(strings.NewReader(c.b), "gwqu", 1); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReadFull(t *testing.T) {
	if err := ReadFull(strings.NewReader(""), make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end of the stream is %v", err)
	}
	if err := ReadFull(strings.NewReader("a"), make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestWithin: a conversation ends when its time is over or its context ends, and the error is why.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(conn net.Conn) func(context.Context) error {
			return func(context.Context) error {
				_, err := conn.Read(make([]byte, 1))
				return err
			}
		}
		here, there := net.Pipe()
		start := time.Now()
		if err := Within(t.Context(), here, time.Minute, read(here)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := there.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %v", err)
		}

		here, _ = net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := Within(ctx, here, time.Minute, read(here)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}

		here, there = net.Pipe()
		there.Close()
		if err := Within(t.Context(), here, time.Minute, read(here)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		here, _ = net.Pipe()
		if err := Within(t.Context(), here, time.Minute, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// TestAwaitClose: what a peer still sends is not kept, and does not go on for ever.
func TestAwaitClose(t *testing.T) {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); AwaitClose(here); here.Close() }()
	n, err := there.Write(make([]byte, 1<<20))
	if <-done; err == nil || n > 64<<10 {
		t.Errorf("a peer has sent %d bytes, %v", n, err)
	}
}

var (
	gray1 = netip.MustParseAddr("10.0.0.1")
	gray2 = netip.MustParseAddr("10.0.0.2")
	blue1 = netip.MustParseAddr("10.0.0.9")
)

// run serves streams of two sites in a synctest bubble. Every stream echoes one byte.
func run(t *testing.T, onePerNode bool) (l streamstest.Listener, log *bytes.Buffer, q *quota.Limiter, stop func()) {
	t.Helper()
	l, log = make(streamstest.Listener), &bytes.Buffer{}
	q = quota.New(quota.Config{AtOnce: 2, Burst: 100, Every: time.Second})
	s := &Server{
		Site: func(a netip.Addr) (string, bool) {
			site, ok := map[netip.Addr]string{gray1: "gray", gray2: "gray", blue1: "blue"}[a]
			return site, ok
		},
		Quota: q, OnePerNode: onePerNode, Logger: hclog.New(&hclog.LoggerOptions{Output: log, DisableTime: true}),
		Handle: func(ctx context.Context, conn net.Conn, from Peer, log *quiet.Logger) {
			err := Within(ctx, conn, time.Hour, func(context.Context) error {
				_, err := io.CopyN(conn, conn, 1)
				return err
			})
			if err != nil {
				log.Info("failed", "failed", "site", from.Site, "address", from.Addr, "error", err)
			}
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	return l, log, q, func() {
		t.Helper()
		cancel()
		close(l)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// echoed reports whether conn is served.
func echoed(conn net.Conn) bool {
	b := []byte("x")
	if _, err := conn.Write(b); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, b)
	return err == nil
}

func TestServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, q, stop := run(t, false)
		if echoed(l.Dial(netip.MustParseAddr("10.0.0.3"))) {
			t.Error("a stranger is served")
		}
		// Two idle streams of gray, from one node: a third is too many, and blue's is served.
		l.Dial(gray1)
		idle := l.Dial(gray1)
		if echoed(l.Dial(gray2)) {
			t.Error("gray has three streams at a time")
		}
		if !echoed(l.Dial(blue1)) {
			t.Error("blue is not served")
		}
		if !echoed(idle) {
			t.Error("an idle stream is ended")
		}
		synctest.Wait()
		if !echoed(l.Dial(gray2)) {
			t.Error("gray's place is not free again")
		}
		if st := q.Stats("gray"); st.Busy != 1 {
			t.Errorf("%+v", st)
		}
		stop()
		for _, want := range []string{"belongs to no node of a linked site: address=10.0.0.3", "too many at a time: address=10.0.0.2 site=gray", "site=gray address=10.0.0.1 error=\"context canceled\""} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %q in the log:\n%s", want, log)
			}
		}
	})
}

// TestOnePerNode: a node that connects again has its former stream ended, and only that one.
func TestOnePerNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _, stop := run(t, true)
		first, other := l.Dial(gray1), l.Dial(gray2)
		second := l.Dial(gray1)
		synctest.Wait() // Dial returns when the server has the stream, before it ends the former
		if echoed(first) {
			t.Error("the former stream is served")
		}
		if !echoed(second) || !echoed(other) {
			t.Error("the other streams are not")
		}
		stop()
	})
}

// TestRunEndsWithItsListener: an error of the listener ends Run with it, its end does not.
func TestRunEndsWithItsListener(t *testing.T) {
	s := &Server{Logger: hclog.NewNullLogger(), Quota: quota.New(quota.Config{AtOnce: 1, Burst: 1, Every: time.Second})}
	broken := errors.New("broken")
	if err := s.Run(t.Context(), failing{err: broken}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := s.Run(t.Context(), failing{err: net.ErrClosed}); err != nil {
		t.Error(err)
	}
}

// failing is a listener that fails.
type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }
func (f failing) Close() error              { return nil }
