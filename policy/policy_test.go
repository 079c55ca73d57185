package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// prefixes is a set of hosts without exceptions.
func prefixes(s ...string) []Hosts {
	var h Hosts
	for _, p := range s {
		h.Prefixes = append(h.Prefixes, netip.MustParsePrefix(p))
	}
	return []Hosts{h}
}

var all = Ports{Lo: 0, Hi: 65535}

func mustNew(t testing.TB, rules ...Rule) *Policy {
	t.Helper()
	p, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJudge(t *testing.T) {
	p := mustNew(t,
		Rule{
			Name: "replication", From: prefixes("10.77.2.0/24", "fd77:2::/64"), To: prefixes("10.77.1.10/32", "fd77:1::10/128"),
			Ports: []Ports{{ProtoTCP, 5432, 5432}},
		},
		Rule{
			Name: "wider", From: prefixes("10.77.2.0/24"), To: prefixes("10.77.1.0/24"),
			Ports: []Ports{{ProtoTCP, 5000, 6000}, {ProtoUDP, 53, 53}},
		},
		Rule{
			Name: "ping", From: prefixes("10.77.0.0/16", "fd77::/16"), To: prefixes("10.77.0.0/16", "fd77::/16"),
			Ports: []Ports{{Proto: ProtoICMP}},
		},
		Rule{
			Name: "admin", From: prefixes("10.77.2.9/24"), To: prefixes("10.77.1.99/32"),
			Ports: []Ports{all},
		},
		Rule{
			Name: "gre", From: prefixes("10.77.2.7/32"), To: prefixes("10.77.1.7/32"),
			Ports: []Ports{{Proto: 47}},
		},
	)
	tests := []struct {
		name, src, dst string
		proto          uint8
		dport          uint16
		rule           string
	}{
		{"the rule's own port", "10.77.2.5", "10.77.1.10", ProtoTCP, 5432, "replication"},
		{"both families", "fd77:2::5", "fd77:1::10", ProtoTCP, 5432, "replication"},
		{"the first rule that fits wins", "10.77.2.5", "10.77.1.11", ProtoTCP, 5432, "wider"},
		{"lower end of a range", "10.77.2.5", "10.77.1.11", ProtoTCP, 5000, "wider"},
		{"upper end of a range", "10.77.2.5", "10.77.1.11", ProtoTCP, 6000, "wider"},
		{"below a range", "10.77.2.5", "10.77.1.11", ProtoTCP, 4999, ""},
		{"above a range", "10.77.2.5", "10.77.1.11", ProtoTCP, 6001, ""},
		{"the port of another protocol", "10.77.2.5", "10.77.1.11", ProtoUDP, 5432, ""},
		{"second entry of ports", "10.77.2.5", "10.77.1.11", ProtoUDP, 53, "wider"},
		{"the other direction is another matter", "10.77.1.10", "10.77.2.5", ProtoTCP, 5432, ""},
		{"icmp", "10.77.1.1", "10.77.2.1", ProtoICMP, 0, "ping"},
		{"icmp covers ICMPv6", "fd77:1::1", "fd77:2::1", ProtoICMPv6, 0, "ping"},
		{"any covers TCP, from a prefix with host bits", "10.77.2.1", "10.77.1.99", ProtoTCP, 22, "admin"},
		{"any covers other protocols", "10.77.2.1", "10.77.1.99", 47, 0, "admin"},
		{"a protocol without ports", "10.77.2.7", "10.77.1.7", 47, 0, "gre"},
		{"an address outside", "10.77.3.1", "10.77.1.10", ProtoTCP, 5432, ""},
		{"a mapped address is not the IPv4 address", "::ffff:10.77.2.5", "::ffff:10.77.1.10", ProtoTCP, 5432, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := p.Judge(netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst), tt.proto, tt.dport)
			got := ""
			if v.Rule != nil {
				got = v.Rule.Name
			}
			if got != tt.rule || v.Allowed != (tt.rule != "") {
				t.Errorf("got allowed=%v rule=%q, want rule %q", v.Allowed, got, tt.rule)
			}
		})
	}
}

// An exception holds for its entry alone: another entry may name the address.
func TestExceptions(t *testing.T) {
	addr := netip.MustParseAddr
	site := Hosts{Prefixes: prefixes("10.77.1.0/24", "fd77:1::/64")[0].Prefixes, Except: []netip.Addr{addr("10.77.1.1"), addr("fd77:1::1")}}
	other := prefixes("10.77.2.0/24", "fd77:2::/64")
	p := mustNew(t,
		Rule{Name: "to", From: other, To: []Hosts{site}, Ports: []Ports{{ProtoTCP, 5432, 5432}}},
		Rule{Name: "from", From: []Hosts{site}, To: other, Ports: []Ports{{ProtoTCP, 5432, 5432}}},
		Rule{Name: "ping", From: other, To: []Hosts{site, prefixes("10.77.1.1/32")[0]}, Ports: []Ports{{Proto: ProtoICMP}}},
	)
	for _, tt := range []struct {
		src, dst       string
		proto          uint8
		rule, excepted string
	}{
		{"10.77.2.10", "10.77.1.10", ProtoTCP, "to", ""},
		{"10.77.2.10", "10.77.1.1", ProtoTCP, "", "to"},
		{"fd77:2::10", "fd77:1::1", ProtoTCP, "", "to"},
		{"10.77.1.1", "10.77.2.10", ProtoTCP, "", "from"},
		{"10.77.1.2", "10.77.2.10", ProtoTCP, "from", ""},
		{"10.77.2.10", "10.77.1.1", ProtoICMP, "ping", ""},
		{"fd77:2::10", "fd77:1::1", ProtoICMPv6, "", "ping"},
		{"10.77.2.10", "10.77.1.1", ProtoUDP, "", ""},
	} {
		name := func(r *Rule) string {
			if r == nil {
				return ""
			}
			return r.Name
		}
		v, x := p.Judge(addr(tt.src), addr(tt.dst), tt.proto, 5432), p.Excepted(addr(tt.src), addr(tt.dst), tt.proto, 5432)
		if name(v.Rule) != tt.rule || name(x) != tt.excepted {
			t.Errorf("%s to %s, protocol %d: rule %q, excepted by %q, want %q and %q", tt.src, tt.dst, tt.proto, name(v.Rule), name(x), tt.rule, tt.excepted)
		}
	}
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	for name, p := range map[string]*Policy{"nil": nil, "empty": mustNew(t)} {
		v := p.Judge(netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.2.1"), ProtoTCP, 5432)
		if v.Allowed || v.Rule != nil {
			t.Errorf("%s policy allows: %+v", name, v)
		}
	}
}

// A policy must not change under its readers when its maker goes on using the rules.
func TestNewCopies(t *testing.T) {
	from, to, ports := prefixes("10.77.2.0/24"), prefixes("10.77.1.0/24"), []Ports{{ProtoTCP, 1, 2}}
	rules := []Rule{{Name: "a", From: from, To: to, Ports: ports}}
	p := mustNew(t, rules...)
	from[0].Prefixes[0], to[0].Prefixes[0], ports[0], rules[0].Name = netip.Prefix{}, netip.Prefix{}, Ports{}, "b"
	v := p.Judge(netip.MustParseAddr("10.77.2.1"), netip.MustParseAddr("10.77.1.1"), ProtoTCP, 2)
	if !v.Allowed || v.Rule.Name != "a" {
		t.Errorf("the policy changed with its source: %+v", v)
	}
}

func TestNewRefuses(t *testing.T) {
	ok := prefixes("10.0.0.0/8")
	tests := []struct {
		name, want string
		rule       Rule
	}{
		{"no from", "each need an entry", Rule{To: ok, Ports: []Ports{all}}},
		{"no to", "each need an entry", Rule{From: ok, Ports: []Ports{all}}},
		{"no ports", "each need an entry", Rule{From: ok, To: ok}},
		{"an unset range", "is empty", Rule{From: ok, To: ok, Ports: []Ports{{Proto: ProtoTCP}}}},
		{"a range upside down", "is empty", Rule{From: ok, To: ok, Ports: []Ports{{ProtoUDP, 2, 1}}}},
		{"ports of no protocol", "name tcp or udp", Rule{From: ok, To: ok, Ports: []Ports{{ProtoAny, 53, 53}}}},
		{"a low port of no protocol", "name tcp or udp", Rule{From: ok, To: ok, Ports: []Ports{{ProtoAny, 53, 0}}}},
		{"an unset prefix", "from: prefix", Rule{From: []Hosts{{Prefixes: make([]netip.Prefix, 1)}}, To: ok, Ports: []Ports{all}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Name, tt.rule.Pos = "r", "site.hcl:7"
			_, err := New([]Rule{tt.rule})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `rule "r" (site.hcl:7)`) {
				t.Errorf("got %v, want the rule's place and %q", err, tt.want)
			}
		})
	}
}

// BenchmarkJudge asks about the last of many rules, which is also what a denied packet costs.
func BenchmarkJudge(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			rules := make([]Rule, n)
			for i := range rules {
				host := netip.AddrFrom4([4]byte{10, 77, byte(r.Uint32()), byte(r.Uint32())})
				rules[i] = Rule{
					Name: fmt.Sprint(i), From: prefixes("10.88.0.0/16", "fd77:2::/64"), To: []Hosts{{Prefixes: []netip.Prefix{netip.PrefixFrom(host, 32)}}},
					Ports: []Ports{{ProtoTCP, 5432, 5432}},
				}
			}
			p := mustNew(b, rules...)
			src, dst := netip.MustParseAddr("10.88.1.1"), netip.MustParseAddr("10.99.0.1")
			b.ReportAllocs()
			for b.Loop() {
				if p.Judge(src, dst, ProtoTCP, 5432).Allowed {
					b.Fatal("allowed")
				}
			}
		})
	}
}
