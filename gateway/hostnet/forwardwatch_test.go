package hostnet

import (
	"strings"
	"testing"
	"time"
)

// TestForwardWatch: what certainly keeps the kernel from forwarding between the LAN and the device
// is found at the next look, in either direction and family, and what only may is not.
func TestForwardWatch(t *testing.T) {
	for _, c := range []struct {
		name string
		do   []string
		want []string // a part of each finding
	}{
		{"as the guide has it", nil, nil},
		{"IPv4 off on the LAN", []string{"sysctl -w net.ipv4.conf.lan.forwarding=0"}, []string{`IPv4 forwarding is off on "lan"`}},
		{"IPv4 off", []string{"sysctl -w net.ipv4.ip_forward=1", "sysctl -w net.ipv4.ip_forward=0"}, []string{`off on "lan"`, `off on "gw0"`}},
		{"IPv6 off", []string{"sysctl -w net.ipv6.conf.all.forwarding=0"}, []string{`IPv6 forwarding is off on "lan"`, `IPv6 forwarding is off on "gw0"`}},
		{"closed", []string{"nft add table inet f", "nft add chain inet f forward '{ type filter hook forward priority filter; policy drop; }'"},
			[]string{`from "lan" to "gw0"`, `from "gw0" to "lan"`}},
		{"closed outward", []string{"nft add table inet f", "nft add chain inet f forward '{ type filter hook forward priority filter; }'",
			"nft add rule inet f forward iifname gw0 oifname lan drop"}, []string{`from "gw0" to "lan"`}},
		{"closed for IPv6", []string{"nft add rule ip6 fit forward iifname lan drop"}, []string{`from "lan" to "gw0" for fd77:2::/64`}},
		{"closed in raw", []string{"nft add table ip f", "nft add chain ip f raw '{ type filter hook prerouting priority raw; }'",
			"nft add rule ip f raw iifname lan drop"}, []string{`from "lan" to "gw0"`}},
		{"new connections in one direction only", []string{"nft add table inet f", "nft add chain inet f forward '{ type filter hook forward priority filter; policy drop; }'",
			"nft add rule inet f forward ct state established,related accept", "nft add rule inet f forward iifname lan oifname gw0 accept"}, nil},
		{"one port", []string{"nft add table inet f", "nft add chain inet f forward '{ type filter hook forward priority filter; policy drop; }'",
			"nft add rule inet f forward tcp dport 5432 accept", "nft add rule inet f forward tcp sport 5432 accept"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, cfg := fit(t)
			d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: DriverOffload})
			defer d.Close()
			s.do(func() {
				s.sh("sysctl -w net.ipv4.conf.gw0.forwarding=1", "ip link set gw0 up")
				w := NewForwardWatch(cfg)
				now := time.Unix(1000, 0)
				if got := w.Look(now); len(got) > 0 {
					t.Fatalf("before: %+v", got)
				}
				s.sh(c.do...)
				got := w.Look(now.Add(forwardEvery))
				if len(got) != len(c.want) {
					t.Fatalf("found %+v, want %q", got, c.want)
				}
				for i, f := range got {
					if !strings.Contains(f.What, c.want[i]) || f.Mend == "" {
						t.Errorf("found %+v, want %q", f, c.want[i])
					}
				}
			})
		})
	}
}
