package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayBulk: bulk both ways at once is carried as the mode wants it, and what
// is hard on the way does it no harm.
func TestRelayBulk(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayBulk(t, mode, 50<<20) })
}

func relayBulk(t *testing.T, mode string, size int64) {
	n := startRelay(t, mode, farWAN)
	n.scenario(t, "both ways at once", noReset, func(t *testing.T) {
		var runs []*lab.Transfer
		for _, w := range n.twoWays() {
			runs = append(runs, n.transfer(t, w, size))
		}
		for _, r := range runs {
			if err := r.Reached(size / 2); err != nil {
				t.Fatal(err)
			}
			n.relayed(t, r.Addr().Port())
		}
		n.finish(t, runs...)
	})
	for _, w := range n.twoWays() {
		n.scenario(t, "loss, doubles and reordering, "+w.name, noReset, func(t *testing.T) {
			rough := farWAN
			rough.Loss, rough.Duplicate, rough.Reorder, rough.ReorderBy = 0.01, 0.01, 0.01, 2*farDelay
			n.impaired(t, rough, func() { n.finish(t, n.transfer(t, w, size/16)) })
		})
		n.scenario(t, "half-closed, with bulk the other way under loss, "+w.name, noReset, func(t *testing.T) { n.halfClosedBulk(t, w, size/4) })
	}
	for _, w := range n.twoWays() {
		n.scenario(t, "the path behind the far gateway narrows, "+w.name, noReset, func(t *testing.T) { n.lanNarrows(t, w, size/4) })
	}
	n.scenario(t, "the way becomes longer", noReset, func(t *testing.T) { n.lengthens(t, size/2) })
	n.scenario(t, "the path between the gateways narrows", noReset, func(t *testing.T) { n.wanNarrows(t, size/4) })
}

// transfer starts size bytes each way on one connection.
func (n *relayNet) transfer(t *testing.T, w way, size int64) *lab.Transfer {
	t.Helper()
	r, err := lab.StartTransfer(t.Context(), transferOf(w, size))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func transferOf(w way, size int64) lab.TransferConfig {
	return lab.TransferConfig{
		From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 0), Source: w.source(), Bytes: size, Back: size,
	}
}

// finish waits for transfers, whose hashes the lab compares.
func (n *relayNet) finish(t *testing.T, runs ...*lab.Transfer) (longest time.Duration) {
	t.Helper()
	for _, r := range runs {
		res, err := r.Wait()
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, res.LongestStall)
		t.Logf("%.0f Mbit/s, longest stall %v", res.Mbps(), res.LongestStall.Round(time.Millisecond))
	}
	return longest
}

// impaired runs do on another WAN.
func (n *relayNet) impaired(t *testing.T, imp lab.Impairment, do func()) {
	t.Helper()
	before := n.Box.Get(lab.RedToGray)
	n.Box.SetBoth(imp)
	defer n.Box.SetBoth(before)
	do()
}

// halfClosedBulk: one end has closed, and the other has bulk to send. Behind a
// relay the loss on the WAN is not the sender's business.
func (n *relayNet) halfClosedBulk(t *testing.T, w way, size int64) {
	lossy := farWAN
	lossy.Loss = 0.01
	least := 0.0 // Mbit/s; raw makes 2 to 5 of this line, a relay on a quiet machine 200
	if n.relays() {
		least = 20
	} else {
		size /= 8
	}
	n.impaired(t, lossy, func() {
		for _, closer := range []string{"client", "server"} {
			client, server := meet(t, w, sockets{})
			within(t, time.Minute, client, server)
			exchange(t, client, server, some)
			closes, goesOn := client, server
			if closer == "server" {
				closes, goesOn = server, client
			}
			if err := closes.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := expectEnd(goesOn); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			all(t,
				func() error { return send(goesOn, stream(7), size) },
				func() error { return expect(closes, stream(7), size) },
			)
			rate := float64(size) * 8 / 1e6 / time.Since(began).Seconds()
			t.Logf("%.0f Mbit/s after the %s had closed", rate, closer)
			if rate < least {
				t.Errorf("%.0f Mbit/s after the %s had closed, want %.0f", rate, closer, least)
			}
			all(t, goesOn.Close, closes.Close)
		}
	})
}

// lanNarrows: in the middle of bulk the way from the far gateway to its database
// takes smaller packets only. Its kernel reports that with ICMP, quoting segments that it
// was to forward. What is relayed stays so.
func (n *relayNet) lanNarrows(t *testing.T, w way, size int64) {
	far := n.Gray.GW()
	if w.to == n.Red.DB() {
		far = n.Red.GW()
	}
	lan, err := far.Netlink().LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	bits := w.addr.BitLen()
	route := &netlink.Route{LinkIndex: lan.Attrs().Index, Dst: &net.IPNet{IP: w.addr.AsSlice(), Mask: net.CIDRMask(bits, bits)}, MTU: 1300}
	r := n.transfer(t, w, size)
	if err := r.Reached(size / 2); err != nil {
		t.Fatal(err)
	}
	if err := far.Netlink().RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := far.Netlink().RouteDel(route); err != nil {
			t.Error(err)
		}
	}()
	slower := farWAN
	slower.Rate = 50e6 // that there is time to look
	n.impaired(t, slower, func() {
		if err := r.Reached(size / 4 * 3); err != nil {
			t.Fatal(err)
		}
		n.relayed(t, r.Addr().Port())
	})
	n.finish(t, r)
	if n.relays() {
		return // there the far gateway's leg knows, and the sender may not have to
	}
	mtu := 0
	c, err := w.from.Dial(t.Context(), "udp", netip.AddrPortFrom(w.addr, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err == nil {
		err = lab.WithFD(raw, func(fd int) (err error) {
			if w.addr.Is4() {
				mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
			} else {
				mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
			}
			return err
		})
	}
	if err != nil || mtu != 1300 {
		t.Errorf("the sender's path MTU is %d bytes, want 1300: %v", mtu, err)
	}
}

// lengthens: in the middle of bulk the way becomes forty times as long. The trunk finds
// out, and the connection stays relayed.
func (n *relayNet) lengthens(t *testing.T, size int64) {
	near, far := farWAN, farWAN
	near.Delay, far.Delay = time.Millisecond/2, 4*farDelay
	near.Rate, far.Rate = 50e6, 50e6 // that there is time to look
	n.impaired(t, near, func() {
		cfg := transferOf(n.ways()[0], size)
		cfg.Back = 0
		r, err := lab.StartTransfer(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Reached(size / 8); err != nil {
			t.Fatal(err)
		}
		// On so short a path only a rule makes a connection relayed.
		always := n.mode == modeRelay
		if always {
			n.relayed(t, r.Addr().Port())
		}
		before := n.relaysEnded(t)
		n.Box.SetBoth(far)
		if err := r.Reached(size * 7 / 8); err != nil {
			t.Fatal(err)
		}
		if after := n.relaysEnded(t); always && after != before {
			t.Errorf("%d relays have ended, want none", after-before)
		}
		n.finish(t, r)
	})
}

// relaysEnded is how many relays have ended, by whatever cause.
func (n *relayNet) relaysEnded(t *testing.T) (sum uint64) {
	t.Helper()
	s, err := n.red.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Relay.Ends {
		sum += e.Count
	}
	return sum
}

// wanNarrows: in the middle of bulk the WAN's routers report that packets are too
// big. It tries the ways that lanNarrows leaves alone.
func (n *relayNet) wanNarrows(t *testing.T, size int64) {
	var runs []*lab.Transfer
	for _, w := range n.ways()[1:3] {
		runs = append(runs, n.transfer(t, w, size))
	}
	for _, r := range runs {
		if err := r.Reached(size / 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Box.SetLinkMTU(narrow); err != nil {
		t.Fatal(err)
	}
	n.finish(t, runs...)
	n.measures(t, narrow)
}
