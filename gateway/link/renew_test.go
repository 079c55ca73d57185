package link

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
)

// TestRenewIsTold: after a reload the peer receives the changes and compares again.
func TestRenewIsTold(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.Peers[0].Sections, p.gray.Peers[0].Sections = linkSections(1), linkSections(2)
	gray, red := start(t, p.gray), start(t, p.red)
	for _, n := range []*node{red, gray} {
		n.await("refused", 5*time.Second, func(s PeerState) bool { return s.Refused })
	}
	peers := slices.Clone(p.gray.Peers)
	peers[0].Sections = linkSections(1)
	gray.Renew(append(peers, Peer{Node: "red-9"}))
	red.await("mended", 5*time.Second, isUp)
	gray.await("mended", 5*time.Second, isUp)
	red.awaitLog("configuration agrees with the peer's", 5*time.Second)
}

// TestRenewUndoesNoTakeover: the file says that gray-1 carries gray's subnets. It did at
// the start, and gray-2 has claimed them since.
func TestRenewUndoesNoTakeover(t *testing.T) {
	await.NoLeaks(t)
	red, gray1, gray2, _ := threeNodes(t)
	subnets := []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}
	carries(t, red, gray1, packet("10.77.1.10:1000", "10.77.2.10:2000", "before"))
	if err := red.MoveSubnets("gray-2", subnets); err != nil {
		t.Fatal(err)
	}
	peers := slices.Clone(red.cfg.Peers)
	for i := range peers {
		peers[i].Keepalive = 7 * time.Second
	}
	if !slices.Equal(peers[0].Subnets, subnets) || peers[0].Node != "gray-1" {
		t.Fatalf("%+v", peers[0])
	}
	red.Renew(peers)
	carries(t, red, gray2, packet("10.77.1.10:1000", "10.77.2.10:2000", "out"))
	carries(t, gray2, red, packet("10.77.2.10:2000", "10.77.1.10:1000", "back"))
	text, err := red.dev.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, "persistent_keepalive_interval=7\n"); n != 2 {
		t.Errorf("%d peers have the new keepalive", n)
	}
}
