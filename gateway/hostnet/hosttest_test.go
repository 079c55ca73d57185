package hostnet

import (
	"net"
	"testing"

	"github.com/onewaylink/gw/gateway/flow/hosttest"
)

// TestReads runs the table of flow's fake host over real devices.
func TestReads(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		hosttest.TestReads(t, func(t *testing.T) (hosttest.Subject, func()) {
			s := newSpace(t, "a")
			s.do(func() { // so that the kernel sends nothing of its own
				if err := writeSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
					t.Fatal(err)
				}
			})
			d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
			s.do(func() { s.up("gw0", "10.9.0.1/24") })
			sock := s.udp("10.9.0.1:7000")
			return d, func() {
				t.Helper()
				if _, err := sock.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 7}); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}
