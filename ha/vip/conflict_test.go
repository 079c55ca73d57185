package vip

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/ha/vip/arp"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
)

// await waits until a Keeper has counted a claim that fits.
func await(t *testing.T, k *Keeper, what string, ok func(Conflict) bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok(k.Conflict()) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %+v", what, k.Conflict())
		}
	}
}

// announceAs has a host claim vip4 as its own.
func (h *arpHost) announceAs(op uint16, hw net.HardwareAddr) {
	h.t.Helper()
	b := arp.Append(nil, arp.Broadcast, op, hw, vip4, make(net.HardwareAddr, 6), vip4)
	if _, err := h.c.WriteTo(b, &packet.Addr{HardwareAddr: arp.Broadcast}); err != nil {
		h.t.Fatal(err)
	}
}

// TestConflict: announcements of the address by another host count while it is held,
// those of the sibling and of this node do not.
func TestConflict(t *testing.T) {
	gateway, host := wire(t)
	h := newARPHost(t, host)
	k := run(t, gateway, vip4, vip6)
	k.SetSibling(macB)
	k.Hold()
	h.announceAs(arp.Reply, macB)
	h.announceAs(arp.Request, k.MAC())
	h.announceAs(arp.Reply, macA)
	await(t, k, "an announcement by reply", func(c Conflict) bool { return c.Claims == 1 })
	h.announceAs(arp.Request, macA)
	await(t, k, "an announcement by request", func(c Conflict) bool { return c.Claims == 2 })
	if c := k.Conflict(); c.MAC.String() != macA.String() || c.Address != vip4 || c.At.IsZero() {
		t.Errorf("%+v", c)
	}
}

// TestConflictIsFound: a host that has the address and keeps quiet is found by probes,
// over both families.
func TestConflictIsFound(t *testing.T) {
	for name, a := range map[string]netip.Addr{"ipv4": vip4, "ipv6": vip6} {
		t.Run(name, func(t *testing.T) {
			gateway, host := wire(t)
			host.do(t, func() error {
				l, err := netlink.LinkByName("lan0")
				if err != nil {
					return err
				}
				n := net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
				return netlink.AddrAdd(l, &netlink.Addr{IPNet: &n, Flags: unix.IFA_F_NODAD})
			})
			k := runWith(t, gateway, Config{Addresses: []netip.Addr{a}, ProbeEvery: 20 * time.Millisecond, Logger: hclog.NewNullLogger()})
			k.SetSibling(macB)
			k.Hold()
			want := interfaceOf(t, host).HardwareAddr
			await(t, k, "the other owner", func(c Conflict) bool { return c.Claims > 0 && bytes.Equal(c.MAC, want) && c.Address == a })
		})
	}
}

// TestConflictLog: a line a minute, with how many claims there were.
func TestConflictLog(t *testing.T) {
	var log strings.Builder
	k := &Keeper{
		cfg: Config{Addresses: []netip.Addr{vip4}}, ifi: &net.Interface{HardwareAddr: macB},
		log: hclog.New(&hclog.LoggerOptions{Output: &log}),
	}
	k.held.Store(true)
	now := time.Unix(1_800_000_000, 0)
	for i := range 200 {
		k.claimed(vip4, macA, now.Add(time.Duration(i)*time.Second))
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[3], "claims=60") || !strings.Contains(lines[3], macA.String()) {
		t.Errorf("%d lines for 200 claims in as many seconds:\n%s", len(lines), log.String())
	}
	k.claimed(vip4, nil, now)
	k.claimed(asks, macA, now)
	k.held.Store(false)
	k.claimed(vip4, macA, now)
	if n := k.Conflict().Claims; n != 200 {
		t.Errorf("%d claims", n)
	}
}

// TestValidND: RFC 4861, sections 7.1.1 and 7.1.2.
func TestValidND(t *testing.T) {
	group, err := ndp.SolicitedNodeMulticast(vip6)
	if err != nil {
		t.Fatal(err)
	}
	source := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: macA}}
	ns := func(options []ndp.Option) ndp.Message {
		return &ndp.NeighborSolicitation{TargetAddress: vip6, Options: options}
	}
	na := func(solicited bool) ndp.Message {
		return &ndp.NeighborAdvertisement{TargetAddress: vip6, Solicited: solicited}
	}
	some, none := netip.MustParseAddr("fe80::1%lan0"), netip.MustParseAddr("::")
	multicast := netip.MustParseAddr("ff02::1")
	for _, tt := range []struct {
		name string
		m    ndp.Message
		code byte
		hops int
		dst  netip.Addr
		from netip.Addr
		want bool
	}{
		{"a solicitation", ns(source), 0, 255, group, some, true},
		{"one that was forwarded", ns(source), 0, 254, group, some, false},
		{"one of another code", ns(source), 1, 255, group, some, false},
		{"one for a group", &ndp.NeighborSolicitation{TargetAddress: multicast}, 0, 255, group, some, false},
		{"a probe for duplicates", ns(nil), 0, 255, group, none, true},
		{"a probe to one host", ns(nil), 0, 255, vip6, none, false},
		{"a probe with a link address", ns(source), 0, 255, group, none, false},
		{"an advertisement", na(true), 0, 255, some, some, true},
		{"one to all", na(false), 0, 255, multicast, some, true},
		{"one to all that claims to be an answer", na(true), 0, 255, multicast, some, false},
		{"one that was forwarded", na(false), 0, 64, multicast, some, false},
		{"another message", &ndp.RouterSolicitation{}, 0, 255, multicast, some, false},
	} {
		cm := &ipv6.ControlMessage{HopLimit: tt.hops, Dst: tt.dst.WithZone("").AsSlice()}
		if got := validND(tt.m, tt.code, cm, tt.from); got != tt.want {
			t.Errorf("%s: valid %v", tt.name, got)
		}
	}
	if validND(ns(source), 0, nil, some) {
		t.Error("a message of unknown hop limit is valid")
	}
}
