package conntrack

import (
	"net/netip"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// stock are rules that firewalls have by default, around what an administrator accepts for gw. The
// test's datagrams mark the end of what was sent.
var stock = map[string]string{
	// As firewalld and kube-proxy have them.
	"invalid dropped": `ct state invalid drop; udp dport 9 accept; ct state established,related accept; iifname "lan" accept; iifname "gw0" accept`,
	// As ufw has them, with "ufw route allow in on lan out on gw0" only.
	"one way": `udp dport 9 accept; ct state established,related accept; ct state invalid drop; iifname "lan" oifname "gw0" accept`,
	// As Docker has them, with the administrator's rules in a chain of their own.
	"jump": `jump user; udp dport 9 accept; ct state established,related accept`,
}

func (r *router) load(rules string) {
	r.t.Helper()
	r.sh(`nft -f - <<'END'
table inet fw {
	chain user { ct state invalid drop; iifname "lan" ct state new accept; return; }
	chain forward { type filter hook forward priority 0; policy drop; ` + rules + `; }
}
END`)
}

func keeper() *Keeper {
	return New(Config{Remote: []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}, Logger: hclog.NewNullLogger()})
}

// must reports a mistake unless the segment passes, or is dropped, as it should.
func (r *router) must(pass bool, what string, out bool, flags byte, seq, acked uint32, payload int) {
	r.t.Helper()
	if r.passes(out, flags, seq, acked, payload) != pass {
		r.t.Fatalf("%s: passes %v, want %v", what, !pass, pass)
	}
}

// opened opens a connection through the router.
func (r *router) opened() {
	r.t.Helper()
	r.must(true, "SYN", true, wiretest.SYN, 1000, 0, 0)
	r.must(true, "SYN/ACK", false, wiretest.SYN|wiretest.ACK, 5000, 1001, 0)
	r.must(true, "ACK", true, wiretest.ACK, 1001, 5001, 0)
	r.must(true, "data", true, wiretest.ACK, 1001, 5001, 500)
	r.must(true, "its acknowledgement", false, wiretest.ACK, 5001, 1501, 0)
}

// TestRoleReturns: the role leaves a node and comes back after megabytes passed elsewhere. Without
// a sweep the firewall drops the connection in both directions; with one it passes.
func TestRoleReturns(t *testing.T) {
	for name, rules := range stock {
		for _, swept := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", no sweep", true: ""}[swept], func(t *testing.T) {
				r := newRouter(t)
				r.load(rules)
				r.opened()
				k := keeper()
				if swept {
					k.standby.Store(true)
					if err := k.sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
					if got := k.Stats(); got != (Stats{Relaxed: 1}) {
						t.Errorf("%+v", got)
					}
				}
				// Elsewhere 4 MB went out and 8 MB came in.
				const outSeq, inSeq = 1501 + 4<<20, 5001 + 8<<20
				r.must(swept, "data that comes in", false, wiretest.ACK, inSeq, outSeq, 700)
				r.must(swept, "its acknowledgement", true, wiretest.ACK, outSeq, inSeq+700, 0)
				r.must(swept, "data that goes out", true, wiretest.ACK, outSeq, inSeq+700, 900)
				r.must(swept, "the next", true, wiretest.ACK, outSeq+900, inSeq+700, 900)
				r.must(swept, "a reset", false, wiretest.RST|wiretest.ACK, inSeq+700, outSeq+1800, 0)
				if swept {
					if err := k.sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
					if got := k.Stats(); got != (Stats{Relaxed: 1}) {
						t.Errorf("a second sweep: %+v", got)
					}
				}
			})
		}
	}
}

// TestOpenedElsewhere: the SYN passed here, the rest of the handshake elsewhere.
func TestOpenedElsewhere(t *testing.T) {
	for _, swept := range []bool{false, true} {
		r := newRouter(t)
		r.load(stock["invalid dropped"])
		r.must(true, "SYN", true, wiretest.SYN, 1000, 0, 0)
		if swept {
			k := keeper()
			// While this node is active, the answer may still come: the entry stays.
			if err := k.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.standby.Store(true)
			if err := k.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := k.Stats(); got.Removed != 1 {
				t.Errorf("%+v", got)
			}
		}
		r.must(swept, "data", true, wiretest.ACK, 1001, 5001, 500)
		if swept {
			r.must(true, "its acknowledgement", false, wiretest.ACK, 5001, 1501, 0)
		}
	}
}

// TestOthersAreLeftAlone: connections that do not lead to another site are judged as before.
func TestOthersAreLeftAlone(t *testing.T) {
	r := newRouter(t)
	r.load(stock["invalid dropped"])
	r.opened()
	k := New(Config{Remote: []netip.Prefix{netip.MustParsePrefix("10.77.3.0/24")}, Logger: hclog.NewNullLogger()})
	if err := k.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.Stats(); got != (Stats{}) {
		t.Errorf("%+v", got)
	}
	r.must(false, "data out of the window", false, wiretest.ACK, 5001+8<<20, 1501, 700)
}
