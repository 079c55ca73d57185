package link

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/link/linktest"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/await"
)

// fakeTrunks gives packets that wait, some at a time, and notes what comes.
type fakeTrunks struct {
	waiting [][]byte
	atOnce  int
	got     []string // the nodes' addresses and payloads
	flushed int
}

var _ Trunks = (*fakeTrunks)(nil)

func (f *fakeTrunks) Pull(bufs [][]byte, sizes []int, offset int) (n int) {
	for n < min(f.atOnce, len(bufs)) && len(f.waiting) > 0 {
		sizes[n] = copy(bufs[n][offset:], f.waiting[0])
		f.waiting = f.waiting[1:]
		n++
	}
	return n
}

func (f *fakeTrunks) Deliver(node netip.Addr, b []byte) {
	f.got = append(f.got, node.String()+" "+string(b))
}

func (f *fakeTrunks) Flush() { f.flushed = len(f.got) }

// trunkPacket is one of a trunk between two addresses.
func trunkPacket(src, dst, payload string) []byte {
	b := wire.AppendIP(nil, netip.MustParseAddr(src), netip.MustParseAddr(dst), wire.ProtoTrunk, len(payload))
	return append(b, payload...)
}

func withTrunks(path Path, f *fakeTrunks) *adapter {
	a := testAdapter(path, nil)
	a.trunks = f
	return a
}

// Packets of trunks from node to node go to the trunks, and no others.
func TestAdapterTakesTrunks(t *testing.T) {
	for _, tt := range []struct {
		name string
		pkt  []byte
		want string // what the trunks get; otherwise the path gets it
	}{
		{"from a node", trunkPacket("10.77.1.1", "10.77.2.1", "eight or more"), "10.77.1.1 eight or more"},
		{"over IPv6", trunkPacket("fd77:1::1", "fd77:2::1", "eight or more"), "fd77:1::1 eight or more"},
		{"from a host", trunkPacket("10.77.1.10", "10.77.2.1", "eight or more"), ""},
		{"to a host", trunkPacket("10.77.1.1", "10.77.2.10", "eight or more"), ""},
		{"too short for any", trunkPacket("10.77.1.1", "10.77.2.1", "x"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, f := linktest.NewPath(8), &fakeTrunks{}
			a := withTrunks(path, f)
			data := packet("10.77.1.10:1", "10.77.2.10:2", "data around it")
			if n, err := a.Write([][]byte{pad(data), pad(tt.pkt), pad(data)}, 16); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			switch {
			case tt.want == "" && (len(f.got) != 0 || len(path.Out) != 3):
				t.Errorf("the trunks got %q, the path %d packets", f.got, len(path.Out))
			case tt.want != "" && (len(f.got) != 1 || f.got[0] != tt.want || f.flushed != 1 || len(path.Out) != 2):
				t.Errorf("the trunks got %q and %d in whole batches, the path %d packets", f.got, f.flushed, len(path.Out))
			}
		})
	}
}

// However much trunks have to send, it is the host's turn now and then, and a hello's at
// once.
func TestAdapterTakesTurns(t *testing.T) {
	path := linktest.NewPath(8)
	f := &fakeTrunks{atOnce: 2}
	for range 100 {
		f.waiting = append(f.waiting, trunkPacket("10.77.2.1", "10.77.1.1", "trunk"))
	}
	a := withTrunks(path, f)
	host := packet("10.77.2.10:1", "10.77.1.10:2", "host")
	path.In <- host
	bufs, sizes := make([][]byte, tunBatch), make([]int, tunBatch)
	for i := range bufs {
		bufs[i] = make([]byte, 200)
	}
	read := func() (what string) {
		t.Helper()
		n, err := a.Read(bufs, sizes, 16)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case n == 2:
			return "trunks"
		case n == 1 && sizes[0] == len(host):
			return "host"
		case n == 1 && sizes[0] == len("hello"):
			return "hello"
		}
		t.Fatalf("%d packets, the first of %d bytes", n, sizes[0])
		return ""
	}
	for i := range maxPulled {
		if got := read(); got != "trunks" {
			t.Fatalf("batch %d is the %s's", i, got)
		}
	}
	a.send([]byte("hello"))
	if got := read(); got != "hello" {
		t.Errorf("the %s's batch goes before a hello", got)
	}
	if got := read(); got != "host" {
		t.Errorf("the %s's batch goes before the host's", got)
	}
	if got := read(); got != "trunks" {
		t.Errorf("the %s's batch, though the host has nothing", got)
	}
}

// A node tells that it takes trunks, and what is pulled arrives at the other one.
func TestTrunksPass(t *testing.T) {
	await.NoLeaks(t)
	p := newPair(t)
	arrived := make(chanTrunks, 100)
	source := &onceTrunks{pkt: trunkPacket("10.77.1.1", "10.77.2.1", "eight or more")}
	gray := start(t, p.gray, func(l *Link) { l.SetTrunks(arrived) })
	red := start(t, p.red, func(l *Link) { l.SetTrunks(source) })
	takes := func(s PeerState) bool { return s.Up && s.Trunks }
	red.await("gray takes trunks", 5*time.Second, takes)
	gray.await("red takes trunks", 5*time.Second, takes)
	source.ready.Store(true)
	red.path.Wake()
	select {
	case got := <-arrived:
		if got != "10.77.1.1 eight or more" {
			t.Errorf("%q", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("it does not arrive")
	}
}

// Without trunks a node does not say that it takes them.
func TestTrunksNotTaken(t *testing.T) {
	await.NoLeaks(t)
	p := newPair(t)
	gray, red := start(t, p.gray), start(t, p.red, func(l *Link) { l.SetTrunks(&onceTrunks{}) })
	gray.await("red takes trunks", 5*time.Second, func(s PeerState) bool { return s.Up && s.Trunks })
	red.await("gray is up", 5*time.Second, func(s PeerState) bool {
		if s.Trunks {
			t.Error("gray takes trunks")
		}
		return s.Up && s.GW
	})
}

// onceTrunks gives one packet when it is ready.
type onceTrunks struct {
	ready atomic.Bool
	pkt   []byte
}

func (o *onceTrunks) Pull(bufs [][]byte, sizes []int, offset int) int {
	if !o.ready.CompareAndSwap(true, false) {
		return 0
	}
	sizes[0] = copy(bufs[0][offset:], o.pkt)
	return 1
}

func (o *onceTrunks) Deliver(netip.Addr, []byte) {}
func (o *onceTrunks) Flush()                     {}

// chanTrunks hands on what comes.
type chanTrunks chan string

func (c chanTrunks) Pull([][]byte, []int, int) int { return 0 }

func (c chanTrunks) Deliver(node netip.Addr, b []byte) { c <- node.String() + " " + string(b) }
func (c chanTrunks) Flush()                            {}

// Each packet of a batch is judged by its own ends.
func TestAdapterTakesTrunksInRows(t *testing.T) {
	path, f := linktest.NewPath(8), &fakeTrunks{}
	a := withTrunks(path, f)
	var bufs [][]byte
	for _, ends := range [][2]string{
		{"10.77.1.1", "10.77.2.1"}, {"10.77.1.1", "10.77.2.1"}, {"10.77.1.10", "10.77.2.1"}, {"10.77.1.10", "10.77.2.1"},
		{"10.77.1.1", "10.77.2.10"}, {"fd77:1::1", "fd77:2::1"}, {"fd77:1::1", "fd77:2::10"}, {"10.77.1.1", "10.77.2.1"},
	} {
		bufs = append(bufs, pad(trunkPacket(ends[0], ends[1], fmt.Sprintf("packet %d", len(bufs)))))
	}
	if n, err := a.Write(bufs, 16); n != len(bufs) || err != nil {
		t.Fatal(n, err)
	}
	want := []string{"10.77.1.1 packet 0", "10.77.1.1 packet 1", "fd77:1::1 packet 5", "10.77.1.1 packet 7"}
	if !slices.Equal(f.got, want) {
		t.Errorf("the trunks got %q, want %q", f.got, want)
	}
}
