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
	freezePairs(t, 100*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond, time.Second, 3*time.Second, 10*time.Second, 30*time.Second, 30*time.Second)
}

func TestPairSiblingCutLong(t *testing.T) { cutSibling(t, time.Minute) }

func TestPairNewWhileCutLong(t *testing.T) { newWhileCut(t, time.Minute, 500) }

func TestPairManyConnectionsLong(t *testing.T) { manyConnections(t, 1000, 200, true) }

// TestPairPostgresLong: a kill each 10 s, for 3 minutes.
func TestPairPostgresLong(t *testing.T) { pairPostgres(t, 18, 10*time.Second) }
