package e2e

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"

	"github.com/onewaylink/gw/tests/lab"
)

// tail is how long more than one answer to a question on the LAN is waited for.
const tail = 100 * time.Millisecond

// answering queries the pair's addresses on the LAN until a node answers,
// and a while longer, and returns all the link addresses that did, by family.
func answering(t *testing.T, from *lab.Host, site *lab.Site) (arp, nd map[string]bool) {
	t.Helper()
	arp, nd = map[string]bool{}, map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := from.Do(func() error {
		ifi, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		if err := askARP(ctx, ifi, from.LAN4, site.Routers[0], arp); err != nil {
			return err
		}
		return askND(ctx, ifi, site.Routers[1], nd)
	})
	if err != nil {
		t.Fatal(err)
	}
	return arp, nd
}

// ask sends a question every few milliseconds until a while after the first
// answer. read returns within as many milliseconds.
func ask(ctx context.Context, got map[string]bool, send func() error, read func(time.Time) (net.HardwareAddr, error)) error {
	var first time.Time
	for first.IsZero() || time.Since(first) < tail {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := send(); err != nil {
			return err
		}
		for deadline := time.Now().Add(10 * time.Millisecond); time.Now().Before(deadline); {
			hw, err := read(deadline)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				break
			}
			if err != nil {
				return err
			}
			if hw == nil {
				continue
			}
			got[hw.String()] = true
			if first.IsZero() {
				first = time.Now()
			}
		}
	}
	return nil
}

func askARP(ctx context.Context, ifi *net.Interface, self, target netip.Addr, got map[string]bool) error {
	const etherTypeARP = 0x0806
	c, err := packet.Listen(ifi, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	q := append(append(append([]byte(nil), all...), ifi.HardwareAddr...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	q = append(append(append(append(q, ifi.HardwareAddr...), self.AsSlice()...), make([]byte, 6)...), target.AsSlice()...)
	b := make([]byte, 128)
	return ask(ctx, got, func() error {
		_, err := c.WriteTo(q, &packet.Addr{HardwareAddr: all})
		return err
	}, func(deadline time.Time) (net.HardwareAddr, error) {
		if err := c.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		n, _, err := c.ReadFrom(b)
		if err != nil || n < 42 || binary.BigEndian.Uint16(b[20:]) != 2 || netip.AddrFrom4([4]byte(b[28:32])) != target {
			return nil, err
		}
		return append(net.HardwareAddr(nil), b[22:28]...), nil
	})
}

func askND(ctx context.Context, ifi *net.Interface, target netip.Addr, got map[string]bool) error {
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return err
	}
	defer c.Close()
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return err
	}
	q := &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}},
	}
	return ask(ctx, got, func() error { return c.WriteTo(q, nil, group) }, func(deadline time.Time) (net.HardwareAddr, error) {
		if err := c.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		m, _, _, err := c.ReadFrom()
		na, ok := m.(*ndp.NeighborAdvertisement)
		if err != nil || !ok || na.TargetAddress != target {
			return nil, err
		}
		for _, o := range na.Options {
			if a, ok := o.(*ndp.LinkLayerAddress); ok {
				return a.Addr, nil
			}
		}
		return nil, nil
	})
}

// answersAlone fails the test unless exactly this node answers for its pair's
// addresses on the LAN.
func (n *pairNetwork) answersAlone(t *testing.T, nd *node) {
	t.Helper()
	site := n.Red
	if nd.host == n.Gray.Gateways[0] || len(n.Gray.Gateways) > 1 && nd.host == n.Gray.Gateways[1] {
		site = n.Gray
	}
	link, err := nd.host.Netlink().LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	want := link.Attrs().HardwareAddr.String()
	arp, neigh := answering(t, site.DB(), site)
	if len(arp) != 1 || !arp[want] {
		t.Errorf("%v answer ARP for %v, want %s of %s alone", arp, site.Routers[0], want, nd.name)
	}
	if len(neigh) != 1 || !neigh[want] {
		t.Errorf("%v answer solicitations for %v, want %s of %s alone", neigh, site.Routers[1], want, nd.name)
	}
}
