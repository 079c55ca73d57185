package records

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/streams/streamstest"
)

// deliver writes b to conn in pieces of at most size bytes, as a network may, and closes it.
func deliver(conn net.Conn, b []byte, size int) {
	defer conn.Close()
	for len(b) > 0 {
		n := min(len(b), size)
		if _, err := conn.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// FuzzServer: a hostile node of one site begins several conversations with a running server, in
// pieces of any size, and reads as much of the answers as it likes. It never receives more than its
// own site's records, and in the end an honest node of another site fetches all of its own.
func FuzzServer(f *testing.F) {
	f.Add([]byte("\x03\x10\x09gwrf\x00\x01\x03red\x01\xff"))
	f.Add([]byte("\x01\x00gwrf\x00\x01\x04blue"))
	f.Add([]byte("\x40\xffgwrf\x00\x09\x03redgwrf\x00\x01\x03red"))
	f.Add(append([]byte{1, 255}, appendRequest(nil, "red")...))
	f.Fuzz(func(t *testing.T, script []byte) {
		const mine = 3
		srv := &Server{
			Site: func(a netip.Addr) (string, bool) {
				if a == loopback {
					return "blue", true
				}
				return "red", true
			},
			Records: func(site string) Snapshot {
				if site == "red" {
					return numbered(1)
				}
				return numbered(mine)
			},
			Quota: NewQuota(), Limits: Limits{Time: time.Second}, Logger: hclog.NewNullLogger(),
		}
		l := make(streamstest.Listener)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- srv.Run(ctx, l) }()
		for try := byte(0); try < 4 && len(script) > 2; try++ {
			here := l.Dial(netip.AddrFrom4([4]byte{10, 0, 0, script[0] % 4}))
			size, take := int(script[0])+1, int(script[1])
			go deliverAndRead(here, script[2:], size, take)
			script = script[min(len(script), 2+size):]
		}
		n, err := Fetch(t.Context(), l.Dial(loopback), "blue", Limits{}, func(_, _ []byte) {})
		if n != mine || err != nil {
			t.Errorf("the honest node has %d records, %v", n, err)
		}
		cancel()
		close(l)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := srv.Quota.Stats("red"); st.Answered > burst {
			t.Errorf("%+v", st)
		}
	})
}

// deliverAndRead writes b and reads up to n bytes of what comes back.
func deliverAndRead(conn net.Conn, b []byte, size, n int) {
	defer conn.Close()
	go deliver(conn, b, size)
	_, _ = io.CopyN(io.Discard, conn, int64(n))
}

// FuzzFetch: a hostile giver sends what it likes, in pieces of any size. Fetch returns, and hands
// over no more than its limits allow, and nothing that is no record.
func FuzzFetch(f *testing.F) {
	stream := appendReply(nil, statusFine)
	for i := range 3 {
		stream = appendRecord(stream, record(i).Key, record(i).Value)
	}
	f.Add(appendEnd(bytes.Clone(stream), 3), byte(0))
	f.Add(stream, byte(7))
	f.Add(appendRecord(appendReply(nil, statusFine), []byte("k"), make([]byte, MaxValue)), byte(255))
	f.Add(appendReply(nil, statusRefused), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, size byte) {
		here, there := net.Pipe()
		go func() {
			if _, err := io.ReadFull(there, make([]byte, len(appendRequest(nil, "red")))); err == nil {
				deliver(there, b, int(size)+1)
			}
		}()
		lim := Limits{Records: 5, Bytes: 1000, Time: 10 * time.Second}
		total, calls := 0, 0
		n, err := Fetch(t.Context(), here, "red", lim, func(k, v []byte) {
			calls++
			if total += len(k) + len(v); !fits(k, v) {
				t.Errorf("a key of %d bytes with a value of %d", len(k), len(v))
			}
		})
		if n != calls || n > lim.Records || total > lim.Bytes || total > len(b) {
			t.Errorf("%d records, %d calls, %d bytes of %d sent: %v", n, calls, total, len(b), err)
		}
	})
}
