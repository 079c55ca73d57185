package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/gateway/trunk"
)

// Each path bears the name of the node that it leads to; one that has carried nothing does not show
// what hello has measured as its own.
func TestPathsStatus(t *testing.T) {
	got := pathsStatus(parts.Sites(partstest.Network()), map[netip.Addr]trunk.Way{
		netip.MustParseAddr("10.77.2.2"): {RTT: 41 * time.Millisecond, MinRTT: 40 * time.Millisecond, Bandwidth: 35e6 + 0.5, Inside: 2800, Packets: 1000, Lost: 3},
		netip.MustParseAddr("10.77.2.1"): {MinRTT: 40 * time.Millisecond},
		netip.MustParseAddr("10.77.3.1"): {MinRTT: 9 * time.Millisecond, Inside: 1400, Packets: 1},
	})
	want := []status.Way{
		{Site: "blue", Node: "blue-1", LeastRTT: status.Seconds(9 * time.Millisecond), InFlight: 1400, Sent: 1},
		{Site: "gray", Node: "gray-1"},
		{
			Site: "gray", Node: "gray-2", RTT: status.Seconds(41 * time.Millisecond), LeastRTT: status.Seconds(40 * time.Millisecond),
			Bandwidth: 35e6, InFlight: 2800, Sent: 1000, Lost: 3,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
