package link

import (
	"testing"
	"time"
)

func TestTwoNodesTalk(t *testing.T) {
	leakCheck(t)
	p := newPair(t)
	gray := start(t, p.gray)
	red := start(t, p.red)
	t.Logf("red up after %v", red.await("red up", 5*time.Second, isUp))
	t.Logf("gray up after %v", gray.await("gray up", 5*time.Second, isUp))
	full := func(s PeerState) bool { return s.MTU == 1420 && s.GW && s.PartialChecksums }
	red.await("mtu", 5*time.Second, full)
	gray.await("mtu", 5*time.Second, full)
	carries(t, red, gray, packet("10.77.1.10:1000", "10.77.2.10:2000", "to gray"))
	carries(t, gray, red, packet("10.77.2.10:2000", "10.77.1.10:1000", "to red"))
	got := red.Snapshot()[0]
	if got.Node != "gray-1" || got.Version != "test" || got.RTT <= 0 || got.LastHandshake.IsZero() || !got.Initiator || got.TxBytes == 0 {
		t.Errorf("%+v", got)
	}
}
