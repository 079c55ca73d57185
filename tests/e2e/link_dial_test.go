package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// TestDeadNATEntry: the WAN's router passes nothing from or to red's port any more, however often
// red dials, as a NAT does whose entry leads nowhere. Red comes back from another port by itself.
func TestDeadNATEntry(t *testing.T) {
	n := newPairNetwork(t, pairSetup{})
	n.start()
	red, gray := n.red[0], n.gray[0]
	at := gray.link().Endpoint
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	rules := fmt.Sprintf(`table inet dead {
  chain forward { type filter hook forward priority -1; udp sport %s drop; udp dport %s drop; }
}`, port, port)
	if out, err := n.WAN.Command(t.Context(), "nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("nft at the WAN's router: %v: %s", err, out)
	}
	began := time.Now()
	red.waitStatus("the link is lost", func(s status.Status) bool { return s.Links[0].State != status.LinkUp })
	lost := time.Since(began)
	red.waitStatusFor(time.Minute, "the link is up again", func(s status.Status) bool { return s.Links[0].State == status.LinkUp })
	took := time.Since(began)
	t.Logf("lost after %v, up again after %v, first from %s and then from %s", lost.Round(time.Millisecond), took.Round(time.Millisecond), at, gray.link().Endpoint)
	if gray.link().Endpoint == at {
		t.Error("red came back from the same port")
	}
	if took > 30*time.Second {
		t.Errorf("up again after %v, want three seconds for the loss and 15 s of dialling", took)
	}
}
