package e2e

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/lab"
)

// TestPairSiblingStaysOnLAN: the LAN's interface of gray's active node goes down, and the route to
// the sibling with it. Neither heartbeats nor knocks take the default route to the WAN's firewall.
func TestPairSiblingStaysOnLAN(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			n := newPairNetwork(t, pairSetup{grayPair: true})
			at := func(nd *node) netip.Addr {
				if v6 {
					return nd.host.LAN6
				}
				return nd.host.LAN4
			}
			for _, nd := range n.nodes() {
				for _, sibling := range n.gray {
					if v6 {
						nd.edit(fmt.Sprintf("sibling_endpoint = \"%s:51820\"", sibling.host.LAN4), fmt.Sprintf("sibling_endpoint = \"[%s]:51820\"", sibling.host.LAN6))
					}
				}
			}
			n.start()
			dead, heir := n.old(t, n.gray)
			var mu sync.Mutex
			strayed := map[string]int{}
			if _, err := n.WAN.Capture("gray0", lab.CaptureConfig{Each: func(p lab.Packet) {
				var w wire.Packet
				if p.Outgoing || wire.Parse(&w, p.Data) != wire.OK || w.Proto != wire.ProtoUDP || w.Dst() != at(heir) {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				strayed[fmt.Sprintf("%v:%d > %v:%d", w.Src(), w.SrcPort, w.Dst(), w.DstPort)]++
			}}); err != nil {
				t.Fatal(err)
			}
			if err := dead.host.SetLink("lan0", false); err != nil {
				t.Fatal(err)
			}
			heir.waitStatus(heir.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
			anyStrayed := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(strayed) > 0
			}
			dead.waitStatus("heartbeats find no route", func(s status.Status) bool {
				return datagramDrops(&s, "send-no-route") >= 20 || anyStrayed()
			})
			mu.Lock()
			defer mu.Unlock()
			if len(strayed) > 0 {
				t.Errorf("packets to the sibling have left by the WAN: %v", strayed)
			}
		})
	}
}

// datagramDrops returns how many datagrams a node has dropped for a reason.
func datagramDrops(s *status.Status, reason string) uint64 {
	for _, d := range s.Datagrams.Drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}
