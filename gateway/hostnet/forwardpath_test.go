package hostnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What nftables' rules do with new connections from "wan" to hosts behind "lan", as the verdict
// has it. Each case is the rules of a chain "forward" of its own kind.
func TestForwardPath(t *testing.T) {
	const accept, drop = "policy accept;", "policy drop;"
	for _, c := range []struct {
		name   string
		family string
		policy string
		rules  []string // "CHAIN RULE", with CHAIN left out for forward
		want   int
	}{
		{name: "no rule", family: "inet", policy: accept, want: passed},
		{name: "policy", family: "inet", policy: drop, want: dropped},
		{name: "policy of the other family", family: "ip6", policy: drop, want: passed},
		{name: "last rule", family: "ip", policy: accept, rules: []string{"counter drop"}, want: dropped},
		{name: "reject", family: "ip", policy: accept, rules: []string{"reject"}, want: dropped},
		{name: "from the wan", family: "inet", policy: accept, rules: []string{"iifname wan drop"}, want: dropped},
		{name: "from the wan, by its index", family: "inet", policy: accept, rules: []string{"iif wan drop"}, want: dropped},
		{name: "from the wan by wildcard", family: "inet", policy: accept, rules: []string{`iifname "wa*" drop`}, want: dropped},
		{name: "from elsewhere", family: "inet", policy: accept, rules: []string{"iifname eth7 drop", `iifname "lan*" drop`}, want: passed},
		{name: "to the lan", family: "inet", policy: accept, rules: []string{"oifname lan log drop"}, want: dropped},
		{name: "not from the lan", family: "inet", policy: accept, rules: []string{"iifname != { lan, gw0 } drop"}, want: dropped},
		{name: "not from the wan", family: "inet", policy: accept, rules: []string{"iifname != { wan, gw0 } drop"}, want: passed},
		{name: "to the site", family: "inet", policy: accept, rules: []string{"iifname wan ip daddr 10.77.1.0/24 drop"}, want: dropped},
		{name: "to more than the site", family: "inet", policy: accept, rules: []string{"iifname wan ip daddr 10.0.0.0/8 drop"}, want: dropped},
		{name: "to a part of the site", family: "inet", policy: accept, rules: []string{"iifname wan ip daddr 10.77.1.128/25 drop"}, want: undecided},
		{name: "to elsewhere", family: "inet", policy: accept, rules: []string{"iifname wan ip daddr 10.77.2.0/24 drop", "ip6 daddr fd77:1::/64 drop"}, want: passed},
		{name: "one port dropped", family: "inet", policy: accept, rules: []string{"tcp dport 22 drop"}, want: undecided},
		{name: "other protocols", family: "inet", policy: drop, rules: []string{"meta l4proto { icmp, ipv6-icmp } accept", "udp dport 53 accept", "ip protocol icmp accept"}, want: dropped},
		{name: "one port accepted", family: "inet", policy: drop, rules: []string{"tcp dport 22 accept"}, want: undecided},
		{name: "a source accepted", family: "ip", policy: drop, rules: []string{"ip saddr 192.0.2.7 accept"}, want: undecided},
		{name: "established", family: "inet", policy: drop, rules: []string{"ct state established,related accept", "ct state { established } accept"}, want: dropped},
		{name: "established by a map", family: "inet", policy: drop, rules: []string{"ct state vmap { established : accept, related : accept, invalid : drop }"}, want: dropped},
		{name: "new by a map", family: "inet", policy: drop, rules: []string{"ct state vmap { established : accept, new : accept }"}, want: passed},
		{name: "new", family: "inet", policy: accept, rules: []string{"ct state new drop"}, want: dropped},
		{name: "interfaces by a map", family: "inet", policy: drop, rules: []string{"iifname vmap { wan : accept, lan : drop }"}, want: passed},
		{name: "accepted before", family: "inet", policy: accept, rules: []string{"iifname wan accept", "drop"}, want: passed},
		{name: "accepted from the lan before", family: "inet", policy: accept, rules: []string{"iifname lan accept", "iifname gw0 accept", "drop"}, want: dropped},
		{name: "elsewhere", family: "inet", policy: accept, rules: []string{"more iifname wan drop", "jump more"}, want: dropped},
		{name: "elsewhere, and back", family: "inet", policy: drop, rules: []string{"more iifname wan return", "more accept", "jump more"}, want: dropped},
		{name: "elsewhere for others", family: "inet", policy: accept, rules: []string{"more drop", "iifname lan jump more"}, want: passed},
		{name: "elsewhere for good", family: "inet", policy: drop, rules: []string{"more iifname lan accept", "goto more", "accept"}, want: dropped},
		{name: "a limit", family: "inet", policy: accept, rules: []string{"limit rate over 10/second drop"}, want: undecided},
		{name: "what isn't understood", family: "inet", policy: accept, rules: []string{"iifname wan fib saddr type local drop"}, want: undecided},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := fit(t)
			s.do(func() {
				s.sh(fmt.Sprintf("nft add table %s f && nft add chain %s f forward '{ type filter hook forward priority filter; %s }' && nft add chain %s f more",
					c.family, c.family, c.policy, c.family))
				for _, r := range c.rules {
					chain, rule := "forward", r
					if rest, ok := strings.CutPrefix(r, "more "); ok {
						chain, rule = "more", rest
					}
					s.sh(fmt.Sprintf("nft add rule %s f %s '%s'", c.family, chain, rule))
				}
				wantVerdict(t, s, "wan", c.want)
			})
		})
	}
}

// What an earlier hook drops does not come to the chain forward.
func TestForwardPathPrerouting(t *testing.T) {
	s, _ := fit(t)
	s.do(func() {
		s.sh("nft add table inet f", "nft add chain inet f raw '{ type filter hook prerouting priority raw; }'", "nft add rule inet f raw oifname lan drop")
		wantVerdict(t, s, "wan", undecided)
		s.sh("nft add rule inet f raw iifname wan ip daddr 10.77.1.0/24 drop")
		wantVerdict(t, s, "wan", dropped)
		wantVerdict(t, s, "wan-far", undecided)
	})
}

func wantVerdict(t *testing.T, s *space, from string, want int) {
	t.Helper()
	path, err := readForwardPath()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"dropped", "undecided", "passed"}
	if got := path.verdict(s.link(from), s.link("lan"), netip.MustParsePrefix("10.77.1.0/24")); got != want {
		t.Errorf("%s, want %s", names[got], names[want])
	}
}

// The same for rules of the older iptables: made of the tables that the other tests have.
func TestLegacyForward(t *testing.T) {
	for _, c := range []struct {
		prefix string
		tables legacyTables
	}{{"testdata/iptables-", legacy4}, {"testdata/ip6tables-", legacy6}} {
		t.Run(c.tables.command, func(t *testing.T) {
			info, entries := readLegacy(t, c.prefix+"forward-drop.bin")
			at := int(info.Underflow[hookForward])
			_, next, _ := c.tables.entry(entries, at)
			verdict := func(entry []byte, v int32) []byte {
				entry = bytes.Clone(entry)
				target := binary.NativeEndian.Uint16(entry[c.tables.targetOffset:])
				binary.NativeEndian.PutUint32(entry[target+legacyVerdictAt:], uint32(v))
				return entry
			}
			rule := func(in, out string, inverts byte, v int32) []byte {
				r := verdict(entries[at:next], v)
				copy(r[c.tables.iniface:], in)
				copy(r[c.tables.outiface:], out)
				r[c.tables.inverts] = inverts
				return r
			}
			// The rule of INPUT in the other table: -m conntrack --ctstate RELATED,ESTABLISHED.
			inputInfo, inputEntries := readLegacy(t, c.prefix+"input-drop.bin")
			_, first, _ := c.tables.entry(inputEntries, int(inputInfo.HookEntry[hookInput]))
			_, second, _ := c.tables.entry(inputEntries, first)
			established := inputEntries[first:second]

			for _, k := range []struct {
				name   string
				policy int32
				rules  [][]byte
				want   int
			}{
				{"policy", verdictDrop, nil, dropped},
				{"open", verdictAccept, nil, passed},
				{"the lan's accepted", verdictDrop, [][]byte{rule("lan", "", 0, verdictAccept), rule("", "gw0", 0, verdictAccept), established}, dropped},
				{"the wan's accepted", verdictDrop, [][]byte{rule("wan", "lan", 0, verdictAccept)}, undecided},
				{"all but the lan's accepted", verdictDrop, [][]byte{rule("lan", "", legacyInvertsIn, verdictAccept)}, undecided},
				{"all but the wan's accepted", verdictDrop, [][]byte{rule("w+", "", legacyInvertsIn, verdictAccept)}, dropped},
				{"the wan's dropped", verdictAccept, [][]byte{rule("wa+", "", 0, verdictDrop)}, undecided},
				{"others dropped", verdictAccept, [][]byte{rule("eth+", "", 0, verdictDrop), rule("", "lan", legacyInvertsOut, verdictDrop)}, passed},
			} {
				more := slices.Concat(k.rules...)
				l := legacyForward{c.tables, info, slices.Concat(entries[:at], more, verdict(entries[at:next], k.policy), entries[next:])}
				// What follows the rules is further on.
				for hook := range l.info.HookEntry {
					if l.info.HookEntry[hook] > uint32(at) {
						l.info.HookEntry[hook] += uint32(len(more))
					}
					if l.info.Underflow[hook] >= uint32(at) {
						l.info.Underflow[hook] += uint32(len(more))
					}
				}
				if got := verdictOf(l.ends("wan", "lan")); got != k.want {
					t.Errorf("%s: %d, want %d", k.name, got, k.want)
				}
				for n := range l.entries {
					legacyForward{c.tables, l.info, l.entries[:n]}.ends("wan", "lan") // must not panic
				}
			}
		})
	}
}

// An unknown value compares as maybe, and what a mask clears is known.
func TestValue(t *testing.T) {
	prefix := value{[]byte{10, 77, 1, 0}, []byte{255, 255, 255, 0}}
	for _, c := range []struct {
		v    value
		with []byte
		want int
	}{
		{value{}, []byte{1}, maybe},
		{exactly([]byte{1, 2}), []byte{1, 2}, yes},
		{exactly([]byte{1, 2}), []byte{1}, yes},
		{exactly([]byte{1, 2}), []byte{1, 2, 3}, maybe},
		{exactly([]byte{1, 2}), []byte{9, 2, 3}, no},
		{prefix, []byte{10, 77, 1, 7}, maybe},
		{prefix, []byte{10, 77, 2, 7}, no},
		{prefix.masked([]byte{255, 255, 0, 0}, nil), []byte{10, 77, 0, 0}, yes},
		{prefix.masked([]byte{255, 255, 255, 255}, []byte{0, 0, 0, 0}), []byte{10, 77, 1, 0}, maybe},
		{value{}.masked([]byte{0, 0}, []byte{1, 1}), []byte{1, 1}, yes},
	} {
		if got := c.v.compare(0, c.with); got != c.want {
			t.Errorf("%v compared with %v: %d, want %d", c.v, c.with, got, c.want)
		}
		if got := c.v.compare(1, c.with); got != yes-c.want {
			t.Errorf("%v not equal to %v: %d, want %d", c.v, c.with, got, yes-c.want)
		}
	}
}
