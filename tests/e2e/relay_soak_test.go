//go:build soak

package e2e

import (
	"testing"
	"time"
)

func TestRelayBulkLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayBulk(t, mode, 200<<20) })
}

// TestRelayIdleLong: a reader that stops for a minute.
func TestRelayIdleLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayIdle(t, mode, time.Minute) })
}

// TestRelayKillLong: 200 kills.
func TestRelayKillLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayKill(t, mode, 200) })
}

func TestRelayCutLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayCut(t, mode, 30*time.Second) })
}

func TestRelayFuzzLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayFuzz(t, mode, 10*time.Minute) })
}
