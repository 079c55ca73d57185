package bind_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// testSession is an index that the test Binds know as their own.
const testSession = 7

// opened opens a Bind, of which only the ReceiveFunc that the test's host uses is returned.
func opened(t testing.TB, n *network, c bind.Config) (b *bind.Bind, receive conn.ReceiveFunc, port uint16) {
	t.Helper()
	b = bind.New(c, n.carrier())
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	b.Know(testSession)
	if n.host == "[::1]" {
		return b, fns[len(fns)-1], port
	}
	return b, fns[0], port
}

func endpoint(t testing.TB, b conn.Bind, at string) conn.Endpoint {
	t.Helper()
	ep, err := b.ParseEndpoint(at)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// inbox is what a ReceiveFunc fills.
type inbox struct {
	bufs  [][]byte
	sizes []int
	eps   []conn.Endpoint
}

func newInbox(n int) *inbox {
	in := &inbox{make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)}
	for i := range in.bufs {
		in.bufs[i] = make([]byte, 1<<16-1)
	}
	return in
}

// fill receives until there are want datagrams, and returns the types of those that it got.
func (in *inbox) fill(t testing.TB, receive conn.ReceiveFunc, want int) (types []byte, from conn.Endpoint) {
	t.Helper()
	for len(types) < want {
		n, err := receive(in.bufs, in.sizes, in.eps)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if in.sizes[i] > 0 {
				types, from = append(types, in.bufs[i][0]), in.eps[i]
			}
		}
	}
	return types, from
}

// TestFrozen: while the process is taken for frozen, packets that waited are dropped in both
// directions, and handshakes are not.
func TestFrozen(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		var alive atomic.Bool
		b, receive, port := opened(t, n, bind.Config{Alive: alive.Load, Peers: []bind.Peer{{DialsIn: true}}})
		other, _, _ := opened(t, n, bind.Config{Peers: []bind.Peer{{MayDial: true}}})
		to := endpoint(t, other, n.at(port))
		data := transport(100, testSession)
		if err := other.Send([][]byte{data, withMAC(initiation(1))}, to); err != nil {
			t.Fatal(err)
		}
		in := newInbox(8)
		types, from := in.fill(t, receive, 1)
		if len(types) != 1 || types[0] != 1 {
			t.Fatalf("received types %v, want an initiation", types)
		}
		if err := b.Send([][]byte{data}, from); err != nil {
			t.Fatal(err)
		}
		if d := b.Stats().Drops[bind.Frozen]; d != 2 {
			t.Errorf("%d dropped as frozen, want one each way", d)
		}
		alive.Store(true)
		if err := other.Send([][]byte{data}, to); err != nil {
			t.Fatal(err)
		}
		if types, _ := in.fill(t, receive, 1); len(types) != 1 || types[0] != 4 {
			t.Errorf("awake: received types %v", types)
		}
	})
}

// TestGatesCountPackets: what carries a packet has left the gate after Send, sent or not.
func TestGatesCountPackets(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		gate := bind.NewGate(100)
		red, _, _ := opened(t, n, bind.Config{Outbound: gate, InboundLimit: 100, Peers: []bind.Peer{{DialsIn: true}}})
		gray, receive, port := opened(t, n, bind.Config{InboundLimit: 1000})
		gate.Enter(5)
		bufs := [][]byte{transport(32, testSession), transport(48, testSession), response(1, 2), transport(64, testSession)}
		if err := red.Send(bufs, endpoint(t, red, n.at(port))); err != nil {
			t.Fatal(err)
		}
		newInbox(8).fill(t, receive, len(bufs))
		if n := gate.Inside(); n != 3 {
			t.Errorf("%d of 5 packets are left in the outbound gate, want 3: keepalives and handshakes don't count", n)
		}
		if n := gray.Intake().Inside(); n > 3 {
			t.Errorf("%d datagrams are inside, want 3 at most: handshakes don't count", n)
		}
		if err := red.Send(bufs, &conn.StdNetEndpoint{}); !errors.Is(err, conn.ErrWrongEndpointType) {
			t.Errorf("Send to a stranger's endpoint: %v", err)
		}
		if n := gate.Inside(); n != 1 {
			t.Errorf("%d packets are left in the outbound gate, want 1: those that failed have left, too", n)
		}
	})
}

// TestDropsInABatch: what may not be sent leaves no gap, and what may not be received leaves one of
// size 0.
func TestDropsInABatch(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		red, _, _ := opened(t, n, bind.Config{})
		gray, receive, port := opened(t, n, bind.Config{Peers: []bind.Peer{{MayDial: true}}})
		unknown := transport(64, testSession)
		unknown[0] = 9
		m := transport(64, testSession)
		batch := [][]byte{withMAC(initiation(1)), m, unknown, m, response(1, 2), m, m[:20]}
		if err := red.Send(batch, endpoint(t, red, n.at(port))); err != nil {
			t.Fatal(err)
		}
		if types, _ := newInbox(16).fill(t, receive, 3); len(types) != 3 {
			t.Errorf("received types %v, want 3 transport messages", types)
		}
		sent := red.Stats().Drops
		if sent[bind.SendMayNotDial] != 1 || sent[bind.SendMayNotAnswer] != 1 {
			t.Errorf("sender's drops: %v", sent)
		}
		// A last one shows that all before it were judged.
		if err := red.Send([][]byte{m}, endpoint(t, red, n.at(port))); err != nil {
			t.Fatal(err)
		}
		newInbox(16).fill(t, receive, 1)
		if got := gray.Stats().Drops; got[bind.ReceiveUnknownType] != 1 || got[bind.ReceiveMalformed] != 1 {
			t.Errorf("receiver's drops: %v", got)
		}
	})
}

// TestIntakeStartsAgain: after Close and Open the positions of datagrams begin again, and the
// Intake's count with them.
func TestIntakeStartsAgain(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		red, _, _ := opened(t, n, bind.Config{})
		gray, receive, port := opened(t, n, bind.Config{InboundLimit: 100})
		m := transport(64, testSession)
		in := newInbox(8)
		for _, sent := range []int{7, 3, 1} { // fewer each time
			if err := red.Send(slices.Repeat([][]byte{m}, sent), endpoint(t, red, n.at(port))); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < sent; {
				types, _ := in.fill(t, receive, 1)
				got += len(types)
				if inside := gray.Intake().Inside(); inside < 0 || inside > got {
					t.Errorf("%d datagrams are inside, %d have entered", inside, got)
				}
				for i, size := range in.sizes {
					if size > 0 {
						gray.Intake().Leave(in.bufs[i : i+1])
						in.sizes[i] = 0
					}
				}
			}
			if err := gray.Close(); err != nil {
				t.Fatal(err)
			}
			fns, _, err := gray.Open(port)
			if err != nil {
				t.Fatal(err)
			}
			receive = fns[0]
			if n.host == "[::1]" {
				receive = fns[len(fns)-1]
			}
		}
	})
}

// BenchmarkRules is the cost of the rules alone, over a carrier that does nothing. It allocates
// nothing.
func BenchmarkRules(b *testing.B) {
	b.ReportAllocs()
	idle := bind.New(bind.Config{Outbound: bind.NewGate(1 << 30), InboundLimit: 1 << 30}, &nothing{Carrier: newUDP()})
	fns, _, err := idle.Open(0)
	if err != nil {
		b.Fatal(err)
	}
	defer idle.Close()
	idle.Know(testSession)
	ep, err := idle.ParseEndpoint("127.0.0.1:9")
	if err != nil {
		b.Fatal(err)
	}
	in := newInbox(44)
	for i := range in.bufs {
		copy(in.bufs[i], transport(1452, testSession))
		in.eps[i] = ep
	}
	for b.Loop() {
		for i := range in.sizes {
			in.sizes[i] = 1452
		}
		if _, err := fns[0](in.bufs, in.sizes, in.eps); err != nil {
			b.Fatal(err)
		}
		idle.Intake().Leave(in.bufs)
		if err := idle.Send(in.bufs, ep); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRulesAllocateNothing(t *testing.T) {
	if r := testing.Benchmark(BenchmarkRules); r.AllocsPerOp() != 0 {
		t.Errorf("%d allocations for 44 datagrams each way", r.AllocsPerOp())
	}
}

// nothing is a Carrier whose calls return at once, with what is in the buffers.
type nothing struct{ bind.Carrier }

func (n *nothing) Send([][]byte, conn.Endpoint) error { return nil }

func (n *nothing) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{func(bufs [][]byte, _ []int, _ []conn.Endpoint) (int, error) { return len(bufs), nil }}, 1, nil
}
