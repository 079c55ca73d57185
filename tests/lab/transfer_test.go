package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestTransferBreaksOff ends a transfer that a cut line holds up.
func TestTransferBreaksOff(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	a, b := l.Red.GW(), l.Gray.GW()
	ctx, cancel := context.WithCancel(ctxFor(t))
	defer cancel()
	tr, err := StartTransfer(ctx, TransferConfig{
		From: a.Namespace, To: b.Namespace, Addr: netip.AddrPortFrom(b.WAN4, 0), Bytes: 1 << 40, Back: 1 << 40, Flows: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	l.Box.Cut(true)
	cancel()
	if res, err := tr.Wait(); !errors.Is(err, context.Canceled) || res.Received < 1<<20 {
		t.Errorf("the broken transfer: %+v, %v", res, err)
	}
	if err := tr.Reached(1 << 50); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for bytes that never arrive: %v", err)
	}
}

// TestTransferSeesDamage has a middleman who changes one byte, or repeats some.
func TestTransferSeesDamage(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a changed byte": func(b []byte) []byte { b[len(b)/2]++; return b },
		"repeated bytes": func(b []byte) []byte { return append(b, b[len(b)-10:]...) },
		"missing bytes":  func(b []byte) []byte { return b[:len(b)-10] },
	} {
		t.Run(name, func(t *testing.T) {
			want := make(chan string, 1)
			near, far := pipe(t), pipe(t)
			var tr Transfer
			tr.nextHit.Store(noMark)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				s, err := tr.send(near[0], 1, 1<<20)
				if err != nil {
					t.Error(err)
				}
				want <- s
			})
			wg.Go(func() {
				b, err := io.ReadAll(near[1])
				if err == nil {
					_, err = far[0].Write(damage(b))
				}
				if err := errors.Join(err, far[0].CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			s, err := tr.receive(far[1], new(atomic.Int64), 1<<20)
			if err != nil {
				t.Error(err)
			}
			if w := <-want; w == s || !strings.Contains(w, "1048576 bytes") {
				t.Errorf("sent %s, received %s", w, s)
			}
		})
	}
}

// pipe is a TCP connection over the loopback.
func pipe(t *testing.T) [2]*net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return [2]*net.TCPConn{a.(*net.TCPConn), b.(*net.TCPConn)}
}
