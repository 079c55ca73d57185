package vip

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"

	"github.com/onewaylink/gw/ha/vip/arp"
)

var (
	vip4 = netip.MustParseAddr("10.0.0.254")
	vip6 = netip.MustParseAddr("fd00::fe")
	asks = netip.MustParseAddr("10.0.0.10")
)

const (
	// patience is for what is bound to come.
	patience = 5 * time.Second
	// silence is how long nothing must come.
	silence = 100 * time.Millisecond
)

// heard is an ARP message as a host receives it.
type heard struct {
	to, hw         net.HardwareAddr
	op             uint16
	sender, target netip.Addr
}

// arpHost is a host's ear and mouth for ARP.
type arpHost struct {
	t   *testing.T
	c   *packet.Conn
	ifi *net.Interface
}

func newARPHost(t *testing.T, s space) *arpHost {
	h := &arpHost{t: t, ifi: interfaceOf(t, s)}
	s.do(t, func() (err error) {
		h.c, err = packet.Listen(h.ifi, packet.Raw, arp.EtherType, nil)
		return err
	})
	t.Cleanup(func() { h.c.Close() })
	return h
}

func (h *arpHost) ask(target netip.Addr) {
	h.t.Helper()
	q := arp.Append(nil, arp.Broadcast, arp.Request, h.ifi.HardwareAddr, asks, make(net.HardwareAddr, 6), target)
	if _, err := h.c.WriteTo(q, &packet.Addr{HardwareAddr: arp.Broadcast}); err != nil {
		h.t.Fatal(err)
	}
}

// next returns the next message about an address; nil when none comes in time.
func (h *arpHost) next(wait time.Duration, match func(heard) bool) *heard {
	h.t.Helper()
	if err := h.c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		h.t.Fatal(err)
	}
	b := make([]byte, 128)
	for {
		n, _, err := h.c.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			h.t.Fatal(err)
		}
		if n < arp.FrameSize {
			continue
		}
		m := heard{
			to: net.HardwareAddr(b[:6]), hw: net.HardwareAddr(b[22:28]), op: binary.BigEndian.Uint16(b[20:]),
			sender: netip.AddrFrom4([4]byte(b[28:32])), target: netip.AddrFrom4([4]byte(b[38:42])),
		}
		if match(m) {
			m.to, m.hw = append(net.HardwareAddr(nil), m.to...), append(net.HardwareAddr(nil), m.hw...)
			return &m
		}
	}
}

func answer(m heard) bool     { return m.op == arp.Reply && m.target == asks }
func gratuitous(m heard) bool { return m.sender == m.target }

// TestARP: the holder answers for its address, to him who asks, and for no other;
// nobody answers before and after.
func TestARP(t *testing.T) {
	gateway, host := wire(t)
	h := newARPHost(t, host)
	k := run(t, gateway, vip4, vip6)
	mac := interfaceOf(t, gateway).HardwareAddr.String()
	h.ask(vip4)
	if m := h.next(silence, answer); m != nil {
		t.Errorf("a node that does not hold the address answers %+v", m)
	}
	k.Hold()
	if !k.Held() {
		t.Error("not held after Hold")
	}
	h.ask(netip.MustParseAddr("10.0.0.253"))
	h.ask(vip4)
	m := h.next(patience, answer)
	if m == nil || m.sender != vip4 || m.hw.String() != mac || m.to.String() != h.ifi.HardwareAddr.String() {
		t.Errorf("the answer is %+v, want %v at %s, to %v", m, vip4, mac, h.ifi.HardwareAddr)
	}
	k.Drop()
	h.ask(vip4)
	if m := h.next(silence, answer); m != nil || k.Held() {
		t.Errorf("after Drop it answers %+v", m)
	}
}

// TestAnnouncement: each Hold is announced as request and as reply, to everybody,
// more than once, until Drop.
func TestAnnouncement(t *testing.T) {
	gateway, host := wire(t)
	h := newARPHost(t, host)
	k := run(t, gateway, vip4)
	mac := interfaceOf(t, gateway).HardwareAddr.String()
	for range 2 {
		k.Hold()
		began := time.Now()
		for range 3 {
			for _, op := range []uint16{arp.Request, arp.Reply} {
				m := h.next(patience, gratuitous)
				if m == nil || m.op != op || m.sender != vip4 || m.hw.String() != mac || m.to.String() != arp.Broadcast.String() {
					t.Fatalf("announced %+v, want operation %d for %v at %s", m, op, vip4, mac)
				}
			}
		}
		if took := time.Since(began); took < announceAfter[2] {
			t.Errorf("three announcements within %v, and the third is due after %v", took, announceAfter[2])
		}
		k.Drop()
		if m := h.next(announceAfter[3]-announceAfter[2]+silence, gratuitous); m != nil {
			t.Errorf("after Drop it announces %+v", m)
		}
	}
}

// TestND: the same for IPv6.
func TestND(t *testing.T) {
	gateway, host := wire(t)
	ifi, mac := interfaceOf(t, host), interfaceOf(t, gateway).HardwareAddr.String()
	var c *ndp.Conn
	host.do(t, func() (err error) {
		c, _, err = ndp.Listen(ifi, ndp.LinkLocal)
		return err
	})
	defer c.Close()
	next := func(wait time.Duration, solicited bool) *ndp.NeighborAdvertisement {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		for {
			m, _, _, err := c.ReadFrom()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			if err != nil {
				t.Fatal(err)
			}
			if na, ok := m.(*ndp.NeighborAdvertisement); ok && na.TargetAddress == vip6 && na.Solicited == solicited {
				return na
			}
		}
	}
	check := func(na *ndp.NeighborAdvertisement) {
		t.Helper()
		if na == nil || !na.Router || !na.Override || len(na.Options) != 1 {
			t.Fatalf("advertised %+v, want a router that overrides", na)
		}
		if o, ok := na.Options[0].(*ndp.LinkLayerAddress); !ok || o.Direction != ndp.Target || o.Addr.String() != mac {
			t.Errorf("advertised with %+v, want %s", na.Options[0], mac)
		}
	}
	group, err := ndp.SolicitedNodeMulticast(vip6)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		q := &ndp.NeighborSolicitation{
			TargetAddress: vip6, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}},
		}
		if err := c.WriteTo(q, nil, group); err != nil {
			t.Fatal(err)
		}
	}
	k := run(t, gateway, vip4, vip6)
	ask()
	if na := next(silence, true); na != nil {
		t.Errorf("a node that does not hold the address answers %+v", na)
	}
	k.Hold()
	for range 3 {
		check(next(patience, false))
	}
	ask()
	check(next(patience, true))
	// A solicitation that a router may have forwarded is not answered.
	forwarded := &ndp.NeighborSolicitation{TargetAddress: vip6}
	if err := c.WriteTo(forwarded, &ipv6.ControlMessage{HopLimit: ndp.HopLimit - 1, IfIndex: ifi.Index}, group); err != nil {
		t.Fatal(err)
	}
	if na := next(silence, true); na != nil {
		t.Errorf("a solicitation with hop limit %d is answered by %+v", ndp.HopLimit-1, na)
	}
	k.Drop()
	ask()
	if na := next(silence, true); na != nil {
		t.Errorf("after Drop it answers %+v", na)
	}
}

func TestNewRefuses(t *testing.T) {
	s := newSpace(t)
	for _, tt := range []struct{ ifname, want string }{
		{"nosuch0", `find the LAN's interface "nosuch0"`},
		{"lo", "no Ethernet address"},
	} {
		s.do(t, func() error {
			_, err := New(Config{Interface: tt.ifname, Addresses: []netip.Addr{vip4}, Logger: hclog.NewNullLogger()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New on %s: %v, want %q in it", tt.ifname, err, tt.want)
			}
			return nil
		})
	}
}
