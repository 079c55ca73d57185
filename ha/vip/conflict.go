package vip

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"

	"github.com/onewaylink/gw/ha/vip/arp"
)

const (
	// probeEvery is how often the LAN is asked whether another host has the address. A
	// switch does not show this node what others answer to others.
	probeEvery = 30 * time.Second
	// conflictEvery spaces the log lines about a conflict.
	conflictEvery = time.Minute
	// newHolder is how long after Hold a foreign claim may be the former holder's, whose
	// link address is not known yet.
	newHolder = time.Second
)

// Conflict is what was seen of hosts other than the sibling that claim the address while
// this node holds it.
type Conflict struct {
	Claims  uint64           // ARP messages and neighbor advertisements
	MAC     net.HardwareAddr // of the last one; nil when there was none
	Address netip.Addr
	At      time.Time
}

// conflicts collects them. Its methods may be called by any goroutine.
type conflicts struct {
	mu      sync.Mutex
	last    Conflict
	sibling net.HardwareAddr
	since   time.Time // of the last Hold
	logged  time.Time
	skipped uint64 // claims since the last log line
}

// SetSibling names the link address of the other node of the pair, which may claim the
// address too: it does when it takes over.
func (k *Keeper) SetSibling(mac net.HardwareAddr) {
	c := &k.conflicts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sibling = bytes.Clone(mac)
}

// MAC returns the LAN interface's link address.
func (k *Keeper) MAC() net.HardwareAddr { return bytes.Clone(k.ifi.HardwareAddr) }

// Conflict returns a snapshot.
func (k *Keeper) Conflict() Conflict {
	c := &k.conflicts
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// claimed records that the host with a link address claims an address, at a time.
func (k *Keeper) claimed(a netip.Addr, mac net.HardwareAddr, now time.Time) {
	if !k.held.Load() || !k.owns(a) || len(mac) != len(k.ifi.HardwareAddr) || bytes.Equal(mac, k.ifi.HardwareAddr) {
		return
	}
	c := &k.conflicts
	c.mu.Lock()
	if bytes.Equal(mac, c.sibling) || now.Sub(c.since) < newHolder && c.sibling == nil {
		c.mu.Unlock()
		return
	}
	c.last = Conflict{Claims: c.last.Claims + 1, MAC: bytes.Clone(mac), Address: a, At: now}
	c.skipped++
	count := uint64(0)
	if c.logged.IsZero() || now.Sub(c.logged) >= conflictEvery {
		count, c.logged, c.skipped = c.skipped, now, 0
	}
	c.mu.Unlock()
	if count > 0 {
		k.log.Warn("another host claims the vip: hosts may send to it; find it by its link address and change its address",
			"address", a, "mac", mac.String(), "claims", count)
	}
}

// probe asks the LAN for each held address, as a host does that looks for a duplicate
// (RFC 5227 section 2.1.1; RFC 4862 section 5.4, though with this node's own source).
func (k *Keeper) probe() {
	hw := k.ifi.HardwareAddr
	for _, a := range k.cfg.Addresses {
		if a.Is4() {
			k.send(&k.counts.probes, arp.Append(nil, arp.Broadcast, arp.Request, hw, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a), arp.Broadcast)
			continue
		}
		group, err := ndp.SolicitedNodeMulticast(a)
		if err == nil {
			err = k.nd.WriteTo(&ndp.NeighborSolicitation{
				TargetAddress: a, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: hw}},
			}, nil, group)
		}
		k.sent(&k.counts.probes, err)
	}
}

// look probes now and then while the address is held, until ctx ends.
func (k *Keeper) look(ctx context.Context) error {
	t := time.NewTicker(k.cfg.probeEvery())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if k.held.Load() {
				k.probe()
			}
		}
	}
}

func (c Config) probeEvery() time.Duration {
	if c.ProbeEvery > 0 {
		return c.ProbeEvery
	}
	return probeEvery
}

// validND reports whether a message of neighbor discovery is valid by RFC 4861, sections
// 7.1.1 and 7.1.2: above all, that no router has forwarded it.
func validND(m ndp.Message, code byte, cm *ipv6.ControlMessage, from netip.Addr) bool {
	if cm == nil || cm.HopLimit != ndp.HopLimit || code != 0 {
		return false
	}
	dst, ok := netip.AddrFromSlice(cm.Dst)
	if !ok {
		return false
	}
	switch m := m.(type) {
	case *ndp.NeighborSolicitation:
		if m.TargetAddress.IsMulticast() {
			return false
		}
		if !from.WithZone("").IsUnspecified() {
			return true
		}
		group, err := ndp.SolicitedNodeMulticast(m.TargetAddress)
		return err == nil && dst.WithZone("") == group && linkAddress(m.Options, ndp.Source) == nil
	case *ndp.NeighborAdvertisement:
		return !m.TargetAddress.IsMulticast() && !(dst.IsMulticast() && m.Solicited)
	}
	return false
}

// linkAddress returns the link address that an option of a direction names, or nil.
func linkAddress(options []ndp.Option, d ndp.Direction) net.HardwareAddr {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == d {
			return l.Addr
		}
	}
	return nil
}
