//go:build soak

package e2e

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestPathWidens: a path that was narrow for a while is used in full again.
func TestPathWidens(t *testing.T) {
	n := narrowPath(t, func(b *lab.Box) error { return b.SetLinkMTU(narrow) })
	if err := n.Box.SetLinkMTU(1500); err != nil {
		t.Fatal(err)
	}
	for _, nd := range []*node{n.red, n.gray} {
		nd.waitStatusFor(time.Minute, nd.name+" finds the wider path again", func(s status.Status) bool {
			return s.Links[0].MTUOut == 1420
		})
	}
}
