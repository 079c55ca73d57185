package main

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/gateway/status"
)

func flow(proto, src string, sport uint16, dst string, dport uint16, c status.Conn) status.Conn {
	c.Proto, c.Mode = proto, "raw"
	if c.Relay != nil {
		c.Mode = "relayed"
	}
	c.Source, c.SourcePort, c.Destination, c.DestinationPort = netip.MustParseAddr(src), sport, netip.MustParseAddr(dst), dport
	if c.Rule == "" {
		c.Rule, c.RulePos = "replication", "site.hcl:31"
	}
	return c
}

func flows() []status.Conn {
	const long = "fd77:1234:5678:9abc:def0:1234:5678:9ab1"
	remote := status.Conn{OpenedBy: status.OpenedRemote, Site: "gray", State: "established", BytesOut: 5 << 20, BytesIn: 7 << 30, Age: seconds(50 * time.Hour), Idle: seconds(20 * time.Millisecond)}
	local := status.Conn{OpenedBy: status.OpenedLocal, Site: "gray", State: "established", BytesOut: 999_999, BytesIn: 1023, Age: seconds(90 * time.Second), Idle: seconds(61 * time.Second)}
	wordy := local
	wordy.Rule, wordy.RulePos = "replication-of-the-accounts-between-the-two-sites", "/etc/gw/policy/replication.hcl:118"
	wordy.BytesIn = 0
	ping := status.Conn{OpenedBy: status.OpenedLocal, Site: "gray", State: "replied", BytesOut: 84, BytesIn: 84, Age: seconds(3 * time.Second)}
	remote.Why = "the link loses 0.3 %"
	remote.Relay = &status.ConnRelay{
		NearRTT: seconds(210 * time.Microsecond), LinkRTT: seconds(41 * time.Millisecond), NearRetransmits: 3, LinkRetransmits: 1234,
		WaitingOut: 2 << 20, WaitingIn: 512,
	}
	local.Why = "small or chatty"
	remote.Standby, local.Standby = status.RecordHeld, status.RecordWaiting
	return []status.Conn{
		flow("tcp", "10.77.2.10", 40112, "10.77.1.10", 5432, remote),
		flow("tcp", "255.255.255.255", 65535, "255.255.255.255", 65535, local),
		flow("tcp", "fd77:2::10", 40112, "fd77:1::10", 5432, wordy),
		flow("udp", long, 65535, "fd77:1::10", 53, ping),
		flow("udp", long, 65535, long, 65535, ping),
		flow("icmp", "10.77.1.10", 0, "10.77.2.10", 0, ping),
		flow("icmp", long, 0, "fd77:2::10", 0, ping),
	}
}

func TestConnsText(t *testing.T) {
	tests := []struct {
		golden string
		conns  []status.Conn
		args   []string
	}{
		{"conns.txt", flows(), nil},
		{"conns-by-age.txt", flows(), []string{"--sort", "age"}},
		{"conns-first.txt", flows(), []string{"--limit", "2"}},
		{"conns-none.txt", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			stdout, stderr, code := gw(append([]string{"conns", "--socket", serve(t, madeUp{conns: tt.conns})}, tt.args...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, tt.golden, stdout)
		})
	}
}

func TestConnsJSON(t *testing.T) {
	stdout, stderr, code := gw("conns", "--json", "--limit", "3", "--socket", serve(t, madeUp{conns: flows()}))
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got status.ConnList
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := status.ConnList{Total: 7, Conns: flows()[:3]}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
