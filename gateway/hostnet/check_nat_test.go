package hostnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestLegacyNAT: rules of the older iptables that may rewrite the source of the sites' packets,
// made of the entries that the other tests have.
func TestLegacyNAT(t *testing.T) {
	named := func(name string) netlink.Link { return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}} }
	for _, c := range []struct {
		file         string
		tables       legacyTables
		site, remote string
		other        string
	}{
		{"testdata/iptables-forward-drop.bin", legacy4, "10.77.1.0/24", "10.77.2.0/24", "172.17.0.0/16"},
		{"testdata/ip6tables-forward-drop.bin", legacy6, "fd77:1::/64", "fd77:2::/64", "fd99::/48"},
	} {
		info, entries := readLegacy(t, c.file)
		at := int(info.Underflow[hookForward])
		_, next, _ := c.tables.entry(entries, at)
		rule := func(target, out, from, to string, inverts byte) []byte {
			r := bytes.Clone(entries[at:next])
			copy(r[c.tables.outiface:], out)
			for i, p := range []string{from, to} {
				if p == "" {
					continue
				}
				prefix := netOf(netip.MustParsePrefix(p))
				copy(r[i*len(prefix.IP):], prefix.IP)
				copy(r[(2+i)*len(prefix.IP):], prefix.Mask)
			}
			r[c.tables.inverts] = inverts
			where := int(binary.NativeEndian.Uint16(r[c.tables.targetOffset:]))
			if target == "ACCEPT" {
				accept := int32(verdictAccept)
				binary.NativeEndian.PutUint32(r[where+legacyVerdictAt:], uint32(accept))
			} else {
				copy(r[where+legacyTargetName:], target)
			}
			return r
		}
		site, remote := prefixes(c.site), prefixes(c.remote)
		way := crossing{named("lan"), named("gw0"), site, remote}
		for _, k := range []struct {
			name  string
			rules [][]byte
			want  bool
		}{
			{"none", nil, false},
			{"bare", [][]byte{rule("MASQUERADE", "", "", "", 0)}, true},
			{"toward the tunnel", [][]byte{rule("SNAT", "gw+", "", "", 0)}, true},
			{"toward the wan", [][]byte{rule("MASQUERADE", "wan", "", "", 0)}, false},
			{"not toward the tunnel", [][]byte{rule("MASQUERADE", "gw0", "", "", legacyInvertsOut)}, false},
			{"of others", [][]byte{rule("MASQUERADE", "", c.other, "", 0)}, false},
			{"of all but others", [][]byte{rule("MASQUERADE", "", c.other, "", legacyInvertsSource)}, true},
			{"to others", [][]byte{rule("NETMAP", "", c.site, c.other, 0)}, false},
			{"exempted", [][]byte{rule("ACCEPT", "", c.site, c.remote, 0), rule("MASQUERADE", "", "", "", 0)}, false},
			{"exempted too late", [][]byte{rule("MASQUERADE", "", "", "", 0), rule("ACCEPT", "", c.site, c.remote, 0)}, true},
			{"destination only", [][]byte{rule("DNAT", "", "", "", 0)}, false},
		} {
			all := slices.Concat(entries[:at], slices.Concat(k.rules...), entries[at:])
			from, to, got := c.tables.rewritten(all, way)
			if got != k.want || got && (from != site[0] || to != remote[0]) {
				t.Errorf("%s: %s: %v, %v, %v, want %v", c.tables.command, k.name, from, to, got, k.want)
			}
			for n := range all {
				c.tables.rewritten(all[:n], way) // must not panic
			}
		}
	}
}
