package hostnet

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"
)

// The files are what Linux 6.18 gives of a table "filter" without rules, its FORWARD policy
// set to drop: struct ipt_getinfo, then the entries.
func TestLegacyFirewall(t *testing.T) {
	for _, c := range []struct {
		file   string
		tables legacyTables
	}{{"testdata/iptables-forward-drop.bin", legacy4}, {"testdata/ip6tables-forward-drop.bin", legacy6}} {
		t.Run(c.file, func(t *testing.T) {
			b, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			var info legacyInfo
			n, err := binary.Decode(b, binary.LittleEndian, &info)
			if err != nil {
				t.Fatal(err)
			}
			entries := b[n:]
			judge := func(what string, info legacyInfo, entries []byte, want ...string) {
				t.Helper()
				if got := c.tables.judge(info, entries, "gw0"); !slices.Equal(got, want) {
					t.Errorf("%s: missing %q, not %q", what, got, want)
				}
			}
			judge("drop", info, entries, wayIn, wayOut)

			// A rule is an entry like the policy's, with a name.
			at := int(info.Underflow[hookForward])
			_, next, _ := c.tables.entry(entries, at)
			rule := func(iface int, name string, verdict int32) []byte {
				r := bytes.Clone(entries[at:next])
				copy(r[iface:], name)
				target := binary.NativeEndian.Uint16(r[c.tables.targetOffset:])
				binary.NativeEndian.PutUint32(r[target+legacyVerdictAt:], uint32(verdict))
				return r
			}
			insert := func(rules ...[]byte) (legacyInfo, []byte) {
				more, info := slices.Concat(rules...), info
				info.Underflow[hookForward] += uint32(len(more))
				return info, slices.Concat(entries[:at], more, entries[at:])
			}
			in, out := rule(c.tables.iniface, "gw0", verdictAccept), rule(c.tables.outiface, "gw0", verdictAccept)
			i, e := insert(in)
			judge("one way", i, e, wayOut)
			i, e = insert(in, out)
			judge("both ways", i, e)
			i, e = insert(rule(c.tables.iniface, "gw0", verdictDrop), rule(c.tables.outiface, "gw01", verdictAccept))
			judge("other rules", i, e, wayIn, wayOut)

			accept := slices.Concat(entries[:at], rule(c.tables.iniface, "", verdictAccept), entries[next:])
			judge("accept", info, accept)
			for n := range e {
				c.tables.judge(i, e[:n], "gw0") // must not panic
			}
		})
	}
}
