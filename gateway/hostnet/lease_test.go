package hostnet

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestLease(t *testing.T) {
	s := newSpace(t, "lease")
	for _, a := range addrs("10.77.1.254", "fd77:1::fe") {
		leased := func() (sec int) {
			sec = -1
			s.do(func() {
				lo, err := netlink.LinkByName("lo")
				if err != nil {
					t.Fatal(err)
				}
				list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
				if err != nil {
					t.Fatal(err)
				}
				for _, have := range list {
					if prefixOf(have.IPNet) == netip.PrefixFrom(a, a.BitLen()) {
						sec = have.ValidLft
					}
				}
			})
			return sec
		}
		var err error
		s.do(func() { err = lease("lo", a, 2500*time.Millisecond) })
		if got := leased(); err != nil || got < 2 || got > 3 {
			t.Fatalf("%v: leased for %d s: %v", a, got, err)
		}
		s.do(func() { err = lease("lo", a, 60*time.Second) }) // renewed
		if got := leased(); err != nil || got < 59 {
			t.Fatalf("%v: renewed for %d s: %v", a, got, err)
		}
		for range 2 { // the second finds nothing
			s.do(func() { err = endLease("lo", a) })
			if got := leased(); err != nil || got != -1 {
				t.Fatalf("%v: still there for %d s: %v", a, got, err)
			}
		}
	}
}

func TestLinkUp(t *testing.T) {
	s := newSpace(t, "linkup")
	s.do(func() {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}
		if err := netlink.LinkAdd(v); err != nil {
			t.Fatal(err)
		}
		if linkUp("a") || linkUp("nothing") {
			t.Error("a link that is down, or none, is up")
		}
		s.up("a")
		if linkUp("a") {
			t.Error("a link without carrier is up")
		}
		s.up("b")
		if !linkUp("a") {
			t.Error("a link with carrier is down")
		}
	})
}
