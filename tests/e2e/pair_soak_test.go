//go:build soak

package e2e

import (
	"testing"
	"time"
)

// bound is what no stall may exceed on a machine that does nothing else. What is
// aimed at is 600 ms for kills, and 50 ms for drains.
func (s stalls) bound(t *testing.T, what string, most time.Duration) {
	t.Helper()
	if p99 := s.percentile(99); p99 > most {
		t.Errorf("%s: p99 of the stalls is %v, more than %v", what, p99, most)
	}
}

// TestPairKillLong: 200 kills.
func TestPairKillLong(t *testing.T) { killPairs(t, modeRoute, 70, 30).bound(t, "kills", 2*time.Second) }

func TestPairDrainLong(t *testing.T) { drainPairs(t, modeRoute, 30).bound(t, "drains", time.Second) }

func TestPairDrainRelayedLong(t *testing.T) {
	drainPairs(t, modeRelay, 15).bound(t, "drains", time.Second)
}

func TestPairFreezeLong(t *testing.T) {
	freezePairs(t, modeRoute, 100*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond, time.Second, 3*time.Second, 10*time.Second, 30*time.Second, 30*time.Second)
}

func TestPairSiblingCutLong(t *testing.T) { cutSibling(t, modeRoute, time.Minute) }

func TestPairNewWhileCutLong(t *testing.T) { newWhileCut(t, modeRoute, time.Minute, 500) }

func TestPairManyConnectionsLong(t *testing.T) { manyConnections(t, modeRoute, 1000, 200, true) }

// TestPairPostgresLong: a kill each 10 s, for 3 minutes.
func TestPairPostgresLong(t *testing.T) { pairPostgres(t, modeRoute, 18, 10*time.Second) }

// TestPairRelayedLong: what holds of the pair holds of relayed connections, too.
func TestPairRelayedLong(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, mode string)
	}{
		{"freeze", func(t *testing.T, mode string) {
			freezePairs(t, mode, 100*time.Millisecond, time.Second, 3*time.Second)
		}},
		{"sibling cut", func(t *testing.T, mode string) { cutSibling(t, mode, 10*time.Second) }},
		{"unfit", unfitNodes},
		{"both dead", bothDead},
		{"joins", joinsUnderLoad},
		{"new while cut", func(t *testing.T, mode string) { newWhileCut(t, mode, 10*time.Second, 200) }},
		{"many", func(t *testing.T, mode string) { manyConnections(t, mode, 400, 20, false) }},
		{"PostgreSQL", func(t *testing.T, mode string) { pairPostgres(t, mode, 3, 5*time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, modeRelay) })
	}
}
