package records

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/streams"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func numbered(n int) Snapshot {
	return func(yield func(key, value []byte) bool) {
		for i := range n {
			if r := record(i); !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

// serve runs srv on a listener of the kernel and returns its address.
func serve(t *testing.T, srv *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func testServer(t *testing.T, records func(site string) Snapshot) *Server {
	log, _ := logTo(t)
	return &Server{
		Site:    func(a netip.Addr) (string, bool) { return "red", a == loopback },
		Records: records,
		Quota:   NewQuota(),
		Logger:  log,
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestWireFormat: the bytes of a fetch stay as they are.
func TestWireFormat(t *testing.T) {
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"request", "gwrf\x00\x01\x03red", appendRequest(nil, "red")},
		{"reply", "gwrr\x00\x01\x00", appendReply(nil, statusFine)},
		{"reply to another version", "gwrr\x00\x01\x01", appendReply(nil, statusVersion)},
		{"refusal", "gwrr\x00\x01\x02", appendReply(nil, statusRefused)},
		{"record", "\x03\x00\x04keydata", appendRecord(nil, []byte("key"), []byte("data"))},
		{"end", "\x00\x00\x01\x00\x02", appendEnd(nil, 1<<16+2)},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestFetch(t *testing.T) {
	const n = 20_000
	addr := serve(t, testServer(t, func(site string) Snapshot {
		if site != "red" {
			t.Errorf("site %q", site)
		}
		return numbered(n)
	}))
	next := 0
	got, err := Fetch(t.Context(), dial(t, addr), "red", Limits{}, func(k, v []byte) {
		if r := record(next); !bytes.Equal(r.Key, k) || !bytes.Equal(r.Value, v) {
			t.Fatalf("record %d is %x %x", next, k, v)
		}
		next++
	})
	if err != nil || got != n || next != n {
		t.Fatal(got, next, err)
	}
}

func TestFetchRefused(t *testing.T) {
	srv := testServer(t, func(string) Snapshot { return numbered(1) })
	addr := serve(t, srv)
	none := func(k, v []byte) { t.Error("a record arrived") }
	if _, err := Fetch(t.Context(), dial(t, addr), "gray", Limits{}, none); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	stranger := testServer(t, srv.Records)
	stranger.Site = func(netip.Addr) (string, bool) { return "", false }
	if _, err := Fetch(t.Context(), dial(t, serve(t, stranger)), "red", Limits{}, none); err == nil {
		t.Error("a stranger was served")
	}
	if _, err := Fetch(t.Context(), dial(t, addr), strings.Repeat("x", 256), Limits{}, none); !errors.Is(err, streams.ErrTooLong) {
		t.Error(err)
	}
}

func TestOtherVersionIsSaid(t *testing.T) {
	req := appendRequest(nil, "red")
	req[5] = 9
	c := dial(t, serve(t, testServer(t, nil)))
	if _, err := c.Write(req); err != nil {
		t.Fatal(err)
	}
	if err := readReply(c); !errors.Is(err, streams.ErrVersion) {
		t.Error(err)
	}
	rep := appendReply(nil, statusFine)
	rep[5] = 9
	if err := readReply(bytes.NewReader(rep)); !errors.Is(err, streams.ErrVersion) || !strings.Contains(err.Error(), "version 9 there, 1 here") {
		t.Error(err)
	}
}

func TestServerGivesUpTheFormerConnection(t *testing.T) {
	first := make(chan struct{}, 1)
	addr := serve(t, testServer(t, func(string) Snapshot {
		select {
		case first <- struct{}{}:
			return numbered(200_000) // more than the sockets hold
		default:
			return numbered(10)
		}
	}))
	stuck := dial(t, addr)
	if _, err := stuck.Write(appendRequest(nil, "red")); err != nil {
		t.Fatal(err)
	}
	if err := readReply(stuck); err != nil { // it is being sent
		t.Fatal(err)
	}
	if n, err := Fetch(t.Context(), dial(t, addr), "red", Limits{}, func(k, v []byte) {}); n != 10 || err != nil {
		t.Error(n, err)
	}
	if _, err := readRecords(stuck, Limits{}, func(k, v []byte) {}); err == nil {
		t.Error("the former one ended well")
	}
}

// dialFrom dials from another address of this machine.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// twoSites serves red on 127.0.0.1 to 127.0.0.9, and blue elsewhere.
func twoSites(t *testing.T, records func(site string) Snapshot) *Server {
	srv := testServer(t, records)
	srv.Site = func(a netip.Addr) (string, bool) {
		if a.As4()[3] < 10 {
			return "red", true
		}
		return "blue", true
	}
	return srv
}

// TestServerLimitsASite: a site whose nodes take their records slowly holds as many connections as
// it may, and keeps no other site waiting.
func TestServerLimitsASite(t *testing.T) {
	srv := twoSites(t, func(site string) Snapshot {
		if site == "blue" {
			return numbered(10)
		}
		return numbered(200_000) // more than the sockets hold
	})
	addr := serve(t, srv)
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		stuck := dialFrom(t, from, addr)
		if _, err := stuck.Write(appendRequest(nil, "red")); err != nil {
			t.Fatal(err)
		}
		if err := readReply(stuck); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Fetch(t.Context(), dialFrom(t, "127.0.0.3", addr), "red", Limits{}, nil); err == nil {
		t.Error("a third is served")
	}
	if n, err := Fetch(t.Context(), dialFrom(t, "127.0.0.10", addr), "blue", Limits{}, func(_, _ []byte) {}); n != 10 || err != nil {
		t.Errorf("blue has %d records, %v", n, err)
	}
	if st := srv.Quota.Stats("red"); st.Answered != 2 || st.Busy != 1 {
		t.Errorf("%+v", st)
	}
}

// TestServerRefusesASiteThatAsksTooOften: after a burst it costs no snapshot of the flows any more.
func TestServerRefusesASiteThatAsksTooOften(t *testing.T) {
	var snapshots atomic.Int64
	srv := twoSites(t, func(site string) Snapshot {
		if site == "red" {
			snapshots.Add(1)
		}
		return numbered(3)
	})
	now := time.Unix(1000, 0)
	srv.Quota = quota.New(quota.Config{AtOnce: atOnce, Burst: burst, Every: burstEvery, Now: func() time.Time { return now }})
	addr := serve(t, srv)
	refused := 0
	for range burst + 20 {
		_, err := Fetch(t.Context(), dial(t, addr), "red", Limits{}, func(_, _ []byte) {})
		switch {
		case errors.Is(err, ErrRefused):
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if n := snapshots.Load(); n != burst || refused != 20 {
		t.Errorf("%d snapshots, %d refused", n, refused)
	}
	if n, err := Fetch(t.Context(), dialFrom(t, "127.0.0.10", addr), "blue", Limits{}, func(_, _ []byte) {}); n != 3 || err != nil {
		t.Errorf("blue has %d records, %v", n, err)
	}
}

func TestServerLeavesOutWhatIsOverTheLimits(t *testing.T) {
	srv := testServer(t, func(string) Snapshot { return numbered(100) })
	srv.Limits.Records = 7
	n, err := Fetch(t.Context(), dial(t, serve(t, srv)), "red", Limits{}, func(k, v []byte) {})
	if n != 7 || err != nil {
		t.Error(n, err)
	}
}

func TestReadRecordsRefuses(t *testing.T) {
	two := appendRecord(appendRecord(nil, []byte("a"), []byte("b")), []byte("c"), nil)
	for name, c := range map[string]struct {
		stream []byte
		lim    Limits
		n      int
		want   error
	}{
		"good":            {appendEnd(bytes.Clone(two), 2), Limits{}, 2, nil},
		"no end":          {two, Limits{}, 2, io.ErrUnexpectedEOF},
		"wrong count":     {appendEnd(bytes.Clone(two), 3), Limits{}, 2, streams.ErrProtocol},
		"too many":        {appendEnd(bytes.Clone(two), 2), Limits{Records: 1}, 1, streams.ErrProtocol},
		"too many bytes":  {appendEnd(bytes.Clone(two), 2), Limits{Bytes: 2}, 1, streams.ErrProtocol},
		"value too long":  {appendRecord(nil, []byte("a"), make([]byte, MaxValue+1)), Limits{}, 0, streams.ErrProtocol},
		"torn in a value": {appendRecord(nil, []byte("a"), make([]byte, 9))[:8], Limits{}, 0, io.ErrUnexpectedEOF},
	} {
		n, err := readRecords(iotest.OneByteReader(bytes.NewReader(c.stream)), c.lim, func(k, v []byte) {})
		if n != c.n || !errors.Is(err, c.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func TestFetchEndsInTime(t *testing.T) {
	client, silent := net.Pipe()
	defer silent.Close()
	go io.Copy(io.Discard, silent)
	_, err := Fetch(t.Context(), client, "red", Limits{Time: time.Millisecond}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	client, silent2 := net.Pipe()
	defer silent2.Close()
	srv := testServer(t, nil)
	srv.Limits.Time = time.Millisecond
	if _, err := srv.Serve(t.Context(), client, "red"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func FuzzReadRecords(f *testing.F) {
	stream := appendReply(nil, statusFine)
	for i := range 3 {
		stream = appendRecord(stream, record(i).Key, record(i).Value)
	}
	f.Add(appendEnd(stream, 3))
	f.Add(appendReply(nil, statusRefused))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if readReply(r) != nil {
			return
		}
		from := len(b) - r.Len()
		lim := Limits{Records: 5, Bytes: 1000}
		var again []byte
		total := 0
		n, err := readRecords(r, lim, func(k, v []byte) {
			total += len(k) + len(v)
			again = appendRecord(again, k, v)
		})
		if n > lim.Records || total > lim.Bytes {
			t.Fatalf("%d records, %d bytes", n, total)
		}
		if err == nil {
			again = appendEnd(again, n)
		}
		if rest := b[from:]; !bytes.HasPrefix(rest, again) {
			t.Fatal(cmp.Diff(rest, again))
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add(appendRequest(nil, "red"))
	f.Fuzz(func(t *testing.T, b []byte) {
		site, err := readRequest(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, appendRequest(nil, site)) {
			t.Fatalf("%q", site)
		}
		if errors.Is(err, streams.ErrVersion) && !strings.Contains(err.Error(), fmt.Sprint(binary.BigEndian.Uint16(b[4:]))) {
			t.Fatal(err)
		}
	})
}
