package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestTrainsOnPoorWAN: bulk fills a slow WAN with a short queue and random loss, which loses trains
// and singles alike. Neither node takes trains for spoiled.
func TestTrainsOnPoorWAN(t *testing.T) {
	n := newPairNetwork(t, pairSetup{impaired: true})
	poor := slowWAN
	poor.QueueBytes, poor.Loss = 20<<10, 0.0005
	n.Box.SetBoth(poor)
	n.start()
	n.results(t, n.transfers(t, bulkFor(6*time.Second)))
	for _, nd := range n.nodes() {
		s, err := nd.status()
		if err != nil {
			t.Fatal(err)
		}
		if l := s.Links[0]; l.TrainsLost {
			t.Errorf("%s takes trains to %s for lost", nd.name, l.Peer)
		}
		if log := nd.proc.Log.String(); strings.Contains(log, "trains of datagrams") {
			t.Errorf("%s has taken trains for lost:\n%s", nd.name, log)
		}
	}
}
