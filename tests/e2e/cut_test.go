package e2e

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestLinkCut: a link that is cut for ten seconds in the middle of transfers.
func TestLinkCut(t *testing.T) {
	t.Parallel() // it waits most of the time
	cutLink(t, 10*time.Second)
}

// cutLink cuts the WAN in the middle of transfers: the connections resume when it
// is back.
func cutLink(t *testing.T, cut time.Duration) {
	n := newNetwork(t, setup{lab: lab.Config{Impaired: true}})
	n.Box.SetBoth(wan)
	n.start()
	red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
	const size = 10 << 20
	runs := n.startTransfers(t, size)
	if err := runs[0].Reached(size / 4); err != nil {
		t.Fatal(err)
	}
	n.Box.Cut(true)
	<-time.After(cut) // the length of the outage is what is tried
	n.red.waitState(status.LinkLost)
	before := received(runs)
	n.Box.Cut(false)
	back := time.Now()
	n.red.waitState(status.LinkUp)
	t.Logf("the link is up %v after the return", time.Since(back).Round(time.Millisecond))
	// The kernels' retransmission timers decide when they try again: after an
	// outage of d that is at most another d (RFC 6298 section 5.5).
	ctx, cancel := context.WithTimeout(t.Context(), min(cut, 2*time.Minute)+patience)
	defer cancel()
	if err := lab.Until(ctx, "first progress", func() (bool, error) { return received(runs) > before, nil }); err != nil {
		t.Fatal(err)
	}
	t.Logf("first progress %v after the return", time.Since(back).Round(time.Millisecond))
	n.finishTransfers(t, runs, 2*cut+patience)
	red.noResets(t)
	gray.noResets(t)
	n.noneThrough(t)
}

// TestAddressChange: red's gateway gets another address in the middle of
// transfers, as a provider does to its customers. Gray follows it.
func TestAddressChange(t *testing.T) {
	n := newNetwork(t, setup{lab: lab.Config{Impaired: true}})
	n.Box.SetBoth(wan)
	n.start()
	red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
	const size = 10 << 20
	runs := n.startTransfers(t, size)
	if err := runs[0].Reached(size / 4); err != nil {
		t.Fatal(err)
	}
	next := netip.MustParseAddr("198.51.100.22")
	renumber(t, n.Red.GW(), n.Red.GW().WAN4, next)
	n.gray.waitStatus("gray follows to the new address", func(s status.Status) bool {
		ap, err := netip.ParseAddrPort(s.Links[0].Endpoint)
		return err == nil && ap.Addr() == next
	})
	n.finishTransfers(t, runs, 10*time.Second)
	red.noResets(t)
	gray.noResets(t)
	n.noneThrough(t)
}

// renumber gives a gateway another address in the WAN.
func renumber(t *testing.T, h *lab.Host, old, next netip.Addr) {
	t.Helper()
	// The routes stay with the interface as long as it has an address.
	if err := h.Sysctl("ipv4/conf/wan0/promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("wan0")
	if err != nil {
		t.Fatal(err)
	}
	addr := func(a netip.Addr) *netlink.Addr {
		parsed, err := netlink.ParseAddr(netip.PrefixFrom(a, 24).String())
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	if err := errors.Join(h.Netlink().AddrAdd(link, addr(next)), h.Netlink().AddrDel(link, addr(old))); err != nil {
		t.Fatal(err)
	}
}

// TestGrayRestartsWhileIdle: the link was idle for a while when gray's gateway is
// killed and started. Gray may not dial, and red doesn't know; both reach each
// other again within about a second.
func TestGrayRestartsWhileIdle(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways()[:2] {
		t.Run(w.name, func(t *testing.T) {
			n.gray.kill()
			n.gray.up()
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := lab.Until(ctx, "a ping comes back", func() (bool, error) {
				once, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				_, err := lab.Ping(once, w.from.Namespace, w.addr, 56)
				return err == nil, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			if took > 3*time.Second {
				t.Errorf("reachable after %v, want about a second", took)
			}
			t.Logf("reachable after %v", took.Round(time.Millisecond))
			n.red.waitState(status.LinkUp)
		})
	}
	n.noneThrough(t)
}
