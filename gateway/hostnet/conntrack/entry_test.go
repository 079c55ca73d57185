package conntrack

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// TestRewritten: a connection whose source the host translates is found in either direction of
// asking, and one that it does not translate is not.
func TestRewritten(t *testing.T) {
	site, others := []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")}, []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}
	for _, rewritten := range []bool{false, true} {
		r := newRouter(t)
		r.load(stock["invalid dropped"])
		if rewritten {
			r.sh(`nft 'table ip n { chain post { type nat hook postrouting priority srcnat; oifname "gw0" snat to 10.77.1.30; }; }'`)
		}
		r.must(true, "SYN", true, wiretest.SYN, 1000, 0, 0)
		want, n := Rewrite{}, 0
		if rewritten {
			want = Rewrite{host.Addr(), remote.Addr(), netip.MustParseAddr("10.77.1.30")}
			n = 2 // the datagram behind the segment is a connection of its own
		}
		for _, sides := range [][2][]netip.Prefix{{site, others}, {others, site}} {
			if got, example, err := Rewritten(sides[0], sides[1]); err != nil || got != n || example != want {
				t.Errorf("rewritten %v: %d, %+v, %v", rewritten, got, example, err)
			}
		}
		if n, _, err := Rewritten(others, others); err != nil || n != 0 {
			t.Errorf("within one site: %d, %v", n, err)
		}
		if err := Reachable(); err != nil {
			t.Error(err)
		}
	}
}

// TestReadDamaged: a message that ends anywhere, or has wrong lengths, is refused or read as far as
// it makes sense.
func TestReadDamaged(t *testing.T) {
	msg := []byte{
		2, 0, 0, 0, // AF_INET
		28, 0, 1, 0x80, 20, 0, 1, 0x80, 8, 0, 1, 0, 10, 77, 1, 10, 8, 0, 2, 0, 10, 77, 2, 10, 4, 0, 2, 0x80,
		24, 0, 2, 0x80, 20, 0, 1, 0x80, 8, 0, 1, 0, 10, 77, 2, 10, 8, 0, 2, 0, 10, 77, 1, 10,
		20, 0, 4, 0x80, 16, 0, 1, 0x80, 5, 0, 1, 0, 3, 0, 0, 0, 4, 0, 4, 0, // TCP, established, flags without a value
	}
	var e entry
	if !e.read(msg) || e.state != 3 || e.orig.src != netip.MustParseAddr("10.77.1.10") || e.reply.dst != e.orig.src {
		t.Fatalf("%+v", e)
	}
	for n := range msg {
		e.read(msg[:n])
		damaged := append([]byte{}, msg...)
		for _, v := range []byte{0, 3, 255} {
			damaged[n] = v
			e.read(damaged)
		}
	}
}
