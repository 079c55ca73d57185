// Package hosttest provides hosts for tests of what works on packets: implementations of flow.Host
// without a device, and the table of tests that they share with a real one. It does not import
// flow, whose own tests use it.
package hosttest

import (
	"os"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Silent is a host that sends no packet and accepts every one. A Read that would wait fails as
// after Close.
type Silent struct{}

// Read implements flow.Host.
func (Silent) Read([]byte) (int, wire.Offload, error) { return 0, wire.Offload{}, os.ErrClosed }

// TryRead implements flow.Host.
func (Silent) TryRead([]byte) (int, wire.Offload, error) { return 0, wire.Offload{}, nil }

// Write implements flow.Host.
func (Silent) Write([][]byte, wire.Offload) error { return nil }

// SetReadDeadline implements flow.Host.
func (Silent) SetReadDeadline(time.Time) error { return nil }

// Pending implements flow.Host.
func (Silent) Pending() bool { return false }

// Offload implements flow.Host.
func (Silent) Offload() bool { return true }
