package hosttest

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Subject is a host whose reads TestReads checks.
type Subject interface {
	Read(b []byte) (int, wire.Offload, error)
	TryRead(b []byte) (int, wire.Offload, error)
	SetReadDeadline(time.Time) error
	Pending() bool
	Close() error
}

// TestReads checks what flow.Path relies on when it reads a host. open returns a host without a
// packet, and a function that has one packet sent to it.
func TestReads(t *testing.T, open func(t *testing.T) (h Subject, send func())) {
	type result struct {
		n   int
		err error
	}
	b := make([]byte, 65536)
	past, never := time.Unix(1, 0), time.Time{}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, h Subject, send func(), set func(time.Time))
	}{
		{"TryRead without a packet", func(t *testing.T, h Subject, _ func(), _ func(time.Time)) {
			if n, _, err := h.TryRead(b); n != 0 || err != nil || h.Pending() {
				t.Errorf("%d bytes, %v, pending %v", n, err, h.Pending())
			}
		}},
		{"a packet waits", func(t *testing.T, h Subject, send func(), _ func(time.Time)) {
			send()
			if !h.Pending() {
				t.Error("it is not pending")
			}
			if n, _, err := h.Read(b); n == 0 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if n, _, err := h.TryRead(b); n != 0 || err != nil || h.Pending() {
				t.Errorf("after it: %d bytes, %v, pending %v", n, err, h.Pending())
			}
		}},
		{"a deadline in the past precedes a packet", func(t *testing.T, h Subject, send func(), set func(time.Time)) {
			send()
			set(past)
			for range 2 {
				if n, _, err := h.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read: %d bytes, %v", n, err)
				}
				if n, _, err := h.TryRead(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("TryRead: %d bytes, %v", n, err)
				}
			}
			set(never)
			if n, _, err := h.TryRead(b); n == 0 || err != nil {
				t.Errorf("without it: %d bytes, %v", n, err)
			}
		}},
		{"a later deadline replaces one in the past", func(t *testing.T, h Subject, send func(), set func(time.Time)) {
			set(past)
			set(time.Now().Add(time.Hour))
			send()
			if n, _, err := h.Read(b); n == 0 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		}},
		{"a deadline ends a Read that waits", func(t *testing.T, h Subject, _ func(), set func(time.Time)) {
			got := make(chan result, 1)
			go func() {
				n, _, err := h.Read(b)
				got <- result{n, err}
			}()
			set(past)
			if r := <-got; r.n != 0 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
				t.Errorf("%+v", r)
			}
		}},
		{"closed", func(t *testing.T, h Subject, _ func(), _ func(time.Time)) {
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := h.Read(b); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Read: %v", err)
			}
			if _, _, err := h.TryRead(b); !errors.Is(err, os.ErrClosed) {
				t.Errorf("TryRead: %v", err)
			}
			if h.Pending() {
				t.Error("a packet is pending")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, send := open(t)
			tt.run(t, h, send, func(at time.Time) {
				t.Helper()
				if err := h.SetReadDeadline(at); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
