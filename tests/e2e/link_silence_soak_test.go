//go:build soak

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestSilenceOfGray: red's datagrams stop for longer than the firewall remembers the flow, while
// gray has data to send all the time. Gray begins no flow at the firewall, and the transfer
// goes on after the return.
func TestSilenceOfGray(t *testing.T) {
	n := newPairNetwork(t, pairSetup{})
	n.start()
	red, gray := n.red[0], n.gray[0]
	runs := n.transfers(t, 256<<20)
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	mend := red.deaf(t, "wan0")
	const outage = 90 * time.Second // of which the firewall forgets the flow after 30
	<-time.After(outage)            // its length is what is tried
	refused, err := n.Refused()
	if err != nil {
		t.Fatal(err)
	}
	s, err := gray.status()
	if err != nil {
		t.Fatal(err)
	}
	silent := datagramDrops(&s, "send-silent")
	t.Logf("gray dropped %d datagrams", silent)
	if refused != 0 || silent == 0 {
		t.Errorf("gray began a flow with %d packets and dropped %d, want 0 and some", refused, silent)
	}
	mend()
	began := time.Now()
	gray.waitStatus("the link is up again", func(s status.Status) bool { return s.Links[0].State == status.LinkUp })
	t.Logf("up %v after the return", time.Since(began).Round(time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := lab.Until(ctx, "the transfers go on", func() (bool, error) {
		for _, r := range runs {
			if r.Received() < 256<<20 {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	if refused, err = n.Refused(); err != nil || refused != 0 {
		t.Errorf("gray has begun a flow with %d packets (%v)", refused, err)
	}
}
