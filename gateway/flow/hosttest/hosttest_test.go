package hosttest_test

import (
	"testing"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/netstack/wire"
)

var (
	_ flow.Host = hosttest.Silent{}
	_ flow.Host = (*hosttest.Device)(nil)
)

// TestDevice runs the table that hostnet runs over a real TUN.
func TestDevice(t *testing.T) {
	hosttest.TestReads(t, func(*testing.T) (hosttest.Subject, func()) {
		d := hosttest.NewDevice(true)
		return d, func() { d.Send([]byte("x"), wire.Offload{}) }
	})
}
