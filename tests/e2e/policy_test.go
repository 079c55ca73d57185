package e2e

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// prompt is how soon a refusal must arrive: before the first retransmission of a
// SYN, one second (RFC 6298 section 2.1), on a machine that does other things too.
const prompt = 500 * time.Millisecond

// replication is a policy with one port open each way.
const replication = `
  rule "out" {
    from  = ["red"]
    to    = ["gray"]
    ports = ["tcp/5432", "udp/5432"]
  }
  rule "back" {
    from  = ["gray"]
    to    = ["red"]
    ports = ["tcp/5432", "udp/5432"]
  }`

// prohibited reports whether err is what a kernel makes of the ICMP error
// "administratively prohibited" in the family of an address.
func prohibited(err error, a netip.Addr) bool {
	if a.Is4() {
		return errors.Is(err, syscall.EHOSTUNREACH)
	}
	return errors.Is(err, syscall.EACCES)
}

func denied(t *testing.T, w way, network string, port uint16) {
	t.Helper()
	took, err := refusal(t, w, network, port)
	if !prohibited(err, w.addr) {
		t.Errorf("%s %s: %v, want administratively prohibited", w.name, network, err)
	}
	if took > prompt {
		t.Errorf("%s %s: refused after %v, want under %v", w.name, network, took, prompt)
	}
	t.Logf("%s %s: refused after %v", w.name, network, took)
}

// TestPolicyDenies: what no rule allows fails at once, at the near gateway, in
// both directions.
func TestPolicyDenies(t *testing.T) {
	n := start(t, setup{rules: replication})
	for _, w := range n.ways() {
		near := n.red
		if w.from == n.Gray.DB() {
			near = n.gray
		}
		for _, network := range []string{"tcp", "udp"} {
			before := near.drops("denied")
			denied(t, w, network, 5999)
			if got := near.drops("denied"); got <= before {
				t.Errorf("%s %s: %s counts no denied packet", w.name, network, near.name)
			}
		}
		carriesBulk(t, w, 1<<20)
	}
}

// TestFarPolicyDenies: the far gateway enforces what is in its own file, though
// the near one's allows more.
func TestFarPolicyDenies(t *testing.T) {
	n := newNetwork(t, setup{})
	n.red.edit(everything, replication)
	n.start()
	w := way{"gray to red", n.Gray.DB(), n.Red.DB(), n.Red.DB().LAN4}
	w6 := way{"gray to red, IPv6", n.Gray.DB(), n.Red.DB(), n.Red.DB().LAN6}
	for _, w := range []way{w, w6} {
		for _, network := range []string{"tcp", "udp"} {
			before := n.red.drops("denied")
			denied(t, w, network, 5999)
			if got := n.red.drops("denied"); got <= before {
				t.Errorf("%s: red counts no denied packet", network)
			}
		}
	}
	if got := n.gray.drops("denied"); got != 0 {
		t.Errorf("gray denies %d packets, which its file allows", got)
	}
}

// TestRefusedStaysRefused: a closed port that policy allows is refused by the
// database itself, and as fast.
func TestRefusedStaysRefused(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways() {
		saw := startWatch(t, w.from)
		took, err := refusal(t, w, "tcp", 5999)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want ECONNREFUSED", w.name, err)
		}
		if took > prompt {
			t.Errorf("%s: refused after %v, want under %v", w.name, took, prompt)
		}
		saw.stop(t)
		if c := saw.tcp.Counts(); c.RSTs != 1 || c.Sources[w.addr] != 1 {
			t.Errorf("%s: saw %d resets, sources %v, want one by the database %v", w.name, c.RSTs, c.Sources, w.addr)
		}
		t.Logf("%s: refused after %v", w.name, took)
	}
}
