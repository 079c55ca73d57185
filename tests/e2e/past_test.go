package e2e

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/tests/lab"
)

// TestNothingPastGW: a machine on the WAN that has a route to red's subnets by the WAN address of
// red's gateway. On a host that forwards by interface its SYNs don't reach red's database. On
// one that forwards everywhere they do, doctor reports it, and what doctor names mends it.
// Connections over gw work all the time.
func TestNothingPastGW(t *testing.T) {
	n := start(t, setup{rules: replication})
	gw, db := n.Red.GW(), n.Red.DB()
	for i, via := range []netip.Addr{gw.WAN4, gw.WAN6} {
		if err := n.WAN.Route(n.Red.Subnets[i], via, "red0"); err != nil {
			t.Fatal(err)
		}
	}
	outsider := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}
	const port = 5999 // no rule is about it

	// reached sends a SYN in each family and returns how many reach the database.
	reached := func() (got [2]int64) {
		t.Helper()
		var syns [2]atomic.Int64
		c, err := db.Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) {
			for i, to := range db.Addrs() {
				if !p.Outgoing && destination(p.Data) == to && source(p.Data) == outsider[i] {
					syns[i].Add(1)
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, to := range db.Addrs() {
			syn := lab.Segment{Src: netip.AddrPortFrom(outsider[i], 4000), Dst: netip.AddrPortFrom(to, port), Seq: 1, Flags: lab.SYN, Window: 1000}
			if err := n.WAN.SendIP(lab.TCPPacket(syn, nil)); err != nil {
				t.Fatal(err)
			}
		}
		// The SYNs are through the gateway's host, and then through the LAN.
		for i, hop := range []struct {
			from *lab.Namespace
			to   []netip.Addr
		}{{n.WAN, []netip.Addr{gw.WAN4, gw.WAN6}}, {gw.Namespace, db.Addrs()}} {
			for _, to := range hop.to {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if _, err := lab.Ping(ctx, hop.from, to, 56); err != nil {
					t.Fatalf("hop %d: %v", i, err)
				}
				cancel()
			}
		}
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		return [2]int64{syns[0].Load(), syns[1].Load()}
	}
	// past returns doctor's finding, if there is one.
	past := func() (found []doctor.Check) {
		t.Helper()
		out, err := n.red.host.Command(t.Context(), n.red.bin, "doctor", "--json", "--socket", n.red.socket).Output()
		if err != nil {
			t.Fatal(err)
		}
		var r doctor.Report
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Checks {
			if c.Name == "paths past gw" && c.Level != doctor.OK {
				found = append(found, c)
			}
		}
		return found
	}
	sh := func(command string) {
		t.Helper()
		if out, err := gw.Command(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	carries := func() {
		t.Helper()
		for _, w := range n.ways() {
			carriesBulk(t, w, 64<<10)
		}
	}
	closed := func(what string) {
		t.Helper()
		if got := reached(); got != [2]int64{} {
			t.Errorf("%s: SYNs that reached the database, IPv4 and IPv6: %v", what, got)
		}
		if found := past(); len(found) != 0 {
			t.Errorf("%s: gw doctor finds %v", what, found)
		}
		carries()
	}

	closed("by interface")

	sh("sysctl -qw net.ipv4.ip_forward=1 && nft delete table ip6 gwlab-past")
	if got := reached(); got != [2]int64{1, 1} {
		t.Errorf("forwarding everywhere: SYNs that reached the database: %v", got)
	}
	found := past()
	if len(found) != 2 || found[0].Level != doctor.Warning || !strings.Contains(found[0].What, `packets from "wan0" reach the LAN past gw`) ||
		!strings.Contains(found[0].What, "10.77.1.0/24, fd77:1::/64") || !strings.Contains(found[1].What, `packets from "wan0" enter the tunnel`) {
		t.Fatalf("gw doctor finds %v", found)
	}
	carries()

	sh(found[0].Do)
	closed("mended")
}
