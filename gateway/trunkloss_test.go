package gateway

import (
	"net/netip"
	"testing"
	"time"
)

// A sample counts when it is large enough, and for a while.
func TestTrunkLossSamples(t *testing.T) {
	var l trunkLoss
	start := time.Unix(1000, 0)
	if got := l.look(nil, start); len(got) != 0 {
		t.Errorf("%v before any trunk", got)
	}
	node := netip.MustParseAddr("10.77.2.1")
	l.nodes[node] = &wayLoss{sent: sent{segments: lossSample - 1, again: 5}}
	if got := l.look(nil, start); len(got) != 0 {
		t.Errorf("%v of too small a sample", got)
	}
	l.nodes[node].segments++
	if got := l.look(nil, start)[node]; got != 0.01 {
		t.Errorf("%v of 5 in 500", got)
	}
	if got := l.look(nil, start.Add(lossKept-time.Second))[node]; got != 0.01 {
		t.Errorf("%v while it is believed", got)
	}
	if got := l.look(nil, start.Add(lossKept)); len(got) != 0 {
		t.Errorf("%v when it is old", got)
	}
}
