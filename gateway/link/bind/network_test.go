package bind_test

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/bind/carriertest"
	"github.com/onewaylink/gw/gateway/link/bind/udp"
)

// network is what the carriers of one test are connected by.
type network struct {
	host    string // where all of them are
	carrier func() bind.Carrier
	stock   func() conn.Bind // without gw's rules
	// through returns the address of a port, on a path that loses what the test wants.
	through func(t testing.TB, port uint16) string
}

func (n *network) at(port uint16) string { return fmt.Sprintf("%s:%d", n.host, port) }

// overNetworks runs a test of the rules over each carrier. Lose is called for one datagram at a
// time; nil loses none.
func overNetworks(t *testing.T, lose func(m []byte) bool, test func(t *testing.T, n *network)) {
	t.Run("memory", func(t *testing.T) {
		memory := carriertest.NewNetwork(lose)
		host := netip.MustParseAddr("192.0.2.1")
		n := &network{host: host.String()}
		n.carrier = func() bind.Carrier { return memory.Carrier(host) }
		n.stock = func() conn.Bind { return memory.Carrier(host) }
		n.through = func(_ testing.TB, port uint16) string { return n.at(port) }
		test(t, n)
	})
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if lose != nil && host != "127.0.0.1" {
			continue // what is lost has no address
		}
		t.Run("udp/"+host, func(t *testing.T) {
			n := &network{host: host, carrier: newUDP, stock: conn.NewStdNetBind}
			n.through = func(t testing.TB, port uint16) string {
				if lose == nil {
					return n.at(port)
				}
				return startMiddle(t, port, lose).address()
			}
			test(t, n)
		})
	}
}

func newUDP() bind.Carrier { return udp.New(udp.Config{}) }
