package trunk

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// pulled is the next packets that a pool sends, at most count.
func pulled(t *testing.T, n *node, count int) (list []wire.Packet) {
	t.Helper()
	const offset = 8
	bufs, sizes := make([][]byte, count), make([]int, count)
	for i := range bufs {
		bufs[i] = bytes.Repeat([]byte{0xee}, 4000)
	}
	m := n.Pull(bufs, sizes, offset)
	for ; m == 0; m = n.Pull(bufs, sizes, offset) {
		select {
		case <-n.kick:
		case <-time.After(deadline):
			t.Fatal("nothing waits to be sent")
		}
	}
	for i, b := range bufs[:m] {
		whole := b[offset : offset+sizes[i]]
		if len(bytes.Trim(b[:offset], "\xee"))+len(bytes.Trim(b[offset+sizes[i]:], "\xee")) > 0 {
			t.Error("a packet does not keep to its place")
		}
		var p wire.Packet
		if r := wire.Parse(&p, whole); r != wire.OK || len(p.B) != len(whole) {
			t.Fatalf("%x of %d bytes: %v", whole[:20], len(whole), r)
		}
		list = append(list, p)
	}
	return list
}

// Packets are whole, over IPv4 and IPv6, and as large as the path takes.
func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		self, node string
		mtu        int
	}{
		{"10.77.1.1", "10.77.2.1", 0}, {"10.77.2.1", "10.77.1.1", 1420}, {"fd77::1", "fd77::2", 0}, {"fd77::1", "fd77::2", 3000},
		{"10.77.1.1", "10.77.2.1", leastMTU},
	} {
		self, to := netip.MustParseAddr(c.self), netip.MustParseAddr(c.node)
		n := newNode(t, self, to)
		n.SetWay(to, c.mtu, 20*time.Millisecond)
		n.SetWay(blue, c.mtu, 20*time.Millisecond)
		k := n.Take(to)
		for _, size := range []int{100000, 0} {
			if err := k.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:size]}); err != nil {
				t.Fatal(err)
			}
		}
		// Something to acknowledge, too.
		b := make([]byte, longSize+numSize+chunkSize+1)
		putHead(b, &head{kind: kindData, count: 1, long: true, from: 77})
		putPiece(b[longSize+numSize:], &piece{stream: 1 - k.id&1, flags: flagOpen, data: noise[:1]})
		for number := range uint32(ackBytes/len(b) + 1) {
			binary.BigEndian.PutUint32(b[longSize:], number)
			n.Deliver(to, b)
		}
		n.Flush()
		kinds := make(map[byte]int)
		largest := 0
		for kinds[kindData] == 0 {
			for _, p := range pulled(t, n, 64) {
				if p.V6 != self.Is6() || p.Proto != wire.ProtoTrunk || !p.DF || p.Src() != self || p.Dst() != to {
					t.Errorf("%s: %+v", c.self, p)
				}
				h, _, err := parseHead(p.B[p.L4:])
				if err != nil || !h.long || h.to != 77 {
					t.Errorf("%s: %+v, %v", c.self, h, err)
				}
				kinds[h.kind]++
				largest = max(largest, len(p.B))
			}
		}
		want := c.mtu
		if want == 0 {
			want = firstMTU
		}
		if largest != want || kinds[kindAck] != 1 {
			t.Errorf("%s: the largest packet has %d bytes, want %d; kinds %v", c.self, largest, want, kinds)
		}
	}
}

// When there is room for few packets, each node has its turn.
func TestPullTakesTurns(t *testing.T) {
	n := newNode(t, red, gray, blue)
	for _, to := range []netip.Addr{gray, blue} {
		if err := n.Take(to).Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:100000]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range *n.paths.Load() {
		w.pacing.credit = mostQuantum // none of them has to wait
	}
	count := make(map[netip.Addr]int)
	for range 4 {
		count[pulled(t, n, 1)[0].Dst()]++
	}
	if count[gray] != 2 || count[blue] != 2 {
		t.Errorf("%v", count)
	}
}

// An early deadline is not delayed by a later one.
func TestEarlierTimer(t *testing.T) {
	n := newNode(t, red)
	now := n.now()
	for _, at := range []time.Duration{now + time.Hour, now + 1, now + time.Hour, 0} {
		n.arm(now, at)
	}
	select {
	case <-n.kick:
	case <-time.After(deadline):
		t.Error("Wake is not called")
	}
	n.timer.Stop()
}
