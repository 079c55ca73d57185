package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/trunk"
)

// A sample counts when it is large enough, and for a while.
func TestTrunkLossSamples(t *testing.T) {
	var l trunkLoss
	start := time.Unix(1000, 0)
	if got := l.look(nil, start); len(got) != 0 {
		t.Errorf("%v before any trunk", got)
	}
	node := netip.MustParseAddr("10.77.2.1")
	look := func(packets, lost uint64, now time.Time) (float64, bool) {
		got, ok := l.look(map[netip.Addr]trunk.Way{node: {Packets: packets, Lost: lost}}, now)[node]
		return got, ok
	}
	if got, ok := look(lossSample-1, 5, start); ok {
		t.Errorf("%v of too small a sample", got)
	}
	if got, _ := look(lossSample, 5, start); got != 0.01 {
		t.Errorf("%v of 5 in 500", got)
	}
	if got, _ := look(2*lossSample-1, 10, start.Add(lossKept-time.Second)); got != 0.01 {
		t.Errorf("%v while it is believed", got)
	}
	if got, ok := look(2*lossSample-1, 10, start.Add(lossKept)); ok {
		t.Errorf("%v when it is old", got)
	}
	// Only what has come since counts.
	if got, _ := look(3*lossSample, 25, start.Add(lossKept)); got != 0.02 {
		t.Errorf("%v of 20 in 1000", got)
	}
	// Fewer are lost than was thought.
	if got, ok := look(4*lossSample, 15, start.Add(lossKept)); got != 0 || !ok {
		t.Errorf("%v, %v of none in 500", got, ok)
	}
	if got := l.look(nil, start.Add(lossKept)); len(got) != 0 {
		t.Errorf("%v of a node that trunks lead to no more", got)
	}
	// Its way begins anew.
	if got, _ := look(lossSample, 50, start.Add(lossKept)); got != 0.1 {
		t.Errorf("%v of 50 in the first 500 of a new way", got)
	}
}

// What one node's way loses says nothing of another's.
func TestTrunkLossNodes(t *testing.T) {
	var l trunkLoss
	near, far := netip.MustParseAddr("10.77.2.1"), netip.MustParseAddr("10.77.3.1")
	got := l.look(map[netip.Addr]trunk.Way{near: {Packets: lossSample}, far: {Packets: lossSample, Lost: lossSample / 10}}, time.Unix(1000, 0))
	if len(got) != 2 || got[near] != 0 || got[far] != 0.1 {
		t.Errorf("%v", got)
	}
}
