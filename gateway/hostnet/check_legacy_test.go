package hostnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files are what Linux 6.18 gives of a table "filter" without rules, its FORWARD policy
// set to drop: struct ipt_getinfo, then the entries.
func TestLegacyFirewall(t *testing.T) {
	for _, c := range []struct {
		file   string
		tables legacyTables
	}{{"testdata/iptables-forward-drop.bin", legacy4}, {"testdata/ip6tables-forward-drop.bin", legacy6}} {
		t.Run(c.file, func(t *testing.T) {
			info, entries := readLegacy(t, c.file)
			judge := func(what string, info legacyInfo, entries []byte, want ...string) {
				t.Helper()
				if got := c.tables.judge(info, entries, "gw0"); !slices.Equal(got, want) {
					t.Errorf("%s: missing %q, not %q", what, got, want)
				}
			}
			judge("drop", info, entries, directionIn, directionOut)

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
			judge("one way", i, e, directionOut)
			i, e = insert(in, out)
			judge("both ways", i, e)
			i, e = insert(rule(c.tables.iniface, "gw0", verdictDrop), rule(c.tables.outiface, "gw01", verdictAccept))
			judge("other rules", i, e, directionIn, directionOut)

			accept := slices.Concat(entries[:at], rule(c.tables.iniface, "", verdictAccept), entries[next:])
			judge("accept", info, accept)
			for n := range e {
				c.tables.judge(i, e[:n], "gw0") // must not panic
			}
		})
	}
}

// The files are what Linux 6.18 gives of a table "filter" that iptables-legacy 1.8.9 has
// made, each in two families.
//
//	drop   -P INPUT DROP; -A INPUT -i lo -j ACCEPT
//	       -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//	       -A INPUT -p tcp --dport 22 -j ACCEPT; -A INPUT -p udp --sport 53 -j ACCEPT
//	       -A INPUT -p udp ! --dport 51820 -j ACCEPT; -N never; -A never -j ACCEPT
//	ports  the same, and -N more; -A more -p tcp --dport 9000:9999 -j ACCEPT
//	       -A more -p udp --dport 51820 -m conntrack --ctstate NEW -j ACCEPT
//	ifaces drop, and -A INPUT -i eth0 -j ACCEPT; -A INPUT -i gw0 -j ACCEPT
func TestLegacyInput(t *testing.T) {
	c := CheckConfig{Device: "gw0", ListenPort: 51820, Listen4: true, Listen6: true}
	for _, family := range []struct {
		prefix string
		tables legacyTables
	}{{"testdata/iptables-input-", legacy4}, {"testdata/ip6tables-input-", legacy6}} {
		for name, want := range map[string]bool{"drop": false, "ports": true, "ifaces": true} {
			info, entries := readLegacy(t, family.prefix+name+".bin")
			if !family.tables.dropsInput(info, entries) {
				t.Errorf("%s%s: its policy is not seen", family.prefix, name)
			}
			if got := family.tables.lets(info, entries, c); got != want {
				t.Errorf("%s%s: lets the port through: %v, want %v", family.prefix, name, got, want)
			}
			for n := range entries {
				family.tables.lets(info, entries[:n], c) // must not panic
			}
		}
	}
}

// The same with something else in the rules: a range counts from its first port to its
// last, and what is of TCP, or comes by the TUN, does not count.
func TestLegacyInputChanged(t *testing.T) {
	c := CheckConfig{Device: "gw0", ListenPort: 51820, Listen4: true, Listen6: true}
	ports := func(lo, hi uint16) string {
		return string(binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, lo), hi))
	}
	// The interface, and what lies between it and the protocol.
	eth0 := "eth0" + strings.Repeat("\x00", 28) + strings.Repeat("\xff", 5) + strings.Repeat("\x00", 27)
	for _, family := range []struct {
		prefix string
		tables legacyTables
	}{{"testdata/iptables-input-", legacy4}, {"testdata/ip6tables-input-", legacy6}} {
		for _, r := range []struct {
			what, file, was, is string
			want                bool
		}{
			{"range that ends with the port", "ports", ports(51820, 51820), ports(51000, 51820), true},
			{"range that begins with it", "ports", ports(51820, 51820), ports(51820, 52000), true},
			{"all but a range that ends with it", "drop", ports(51820, 51820), ports(51000, 51820), false},
			{"all but a range that begins with it", "drop", ports(51820, 51820), ports(51820, 52000), false},
			{"all but a range before it", "drop", ports(51820, 51820), ports(51000, 51819), true},
			{"all but a range after it", "drop", ports(51820, 51820), ports(51821, 52000), true},
			{"port of TCP", "drop", ports(22, 22), ports(51820, 51820), false},
			{"TCP only", "ifaces", eth0 + "\x00", eth0 + "\x06", false},
			{"the TUN only", "ifaces", "eth0", "gw0\x00", false},
		} {
			info, entries := readLegacy(t, family.prefix+r.file+".bin")
			changed := bytes.ReplaceAll(entries, []byte(r.was), []byte(r.is))
			if bytes.Equal(changed, entries) {
				t.Fatalf("%s%s: %s: nothing to change", family.prefix, r.file, r.what)
			}
			if got := family.tables.lets(info, changed, c); got != r.want {
				t.Errorf("%s%s: %s: lets the port through: %v, want %v", family.prefix, r.file, r.what, got, r.want)
			}
		}
	}
}

// readLegacy reads a table from a file.
func readLegacy(t *testing.T, file string) (info legacyInfo, entries []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := binary.Decode(b, binary.LittleEndian, &info)
	if err != nil {
		t.Fatal(err)
	}
	return info, b[n:]
}

// TestLegacyWithoutTheList: root alone may read which tables are in use. A service user with
// CAP_NET_ADMIN and CAP_NET_RAW must come to the same findings.
func TestLegacyWithoutTheList(t *testing.T) {
	newSpace(t, "legacy").do(func() {
		c := CheckConfig{Device: "gw0"}
		want := checkLegacyFirewall(c, true, true)
		as := func(id int) { // this thread; any user but root's lacks CAP_DAC_OVERRIDE
			if err := errors.Join(syscall.Setfsgid(id), syscall.Setfsuid(id)); err != nil {
				t.Fatal(err)
			}
		}
		as(65534)
		defer as(0)
		if _, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil {
			t.Fatal("this user may read the list of tables")
		}
		if diff := cmp.Diff(want, checkLegacyFirewall(c, true, true)); diff != "" {
			t.Errorf("(-root +user):\n%s", diff)
		}
	})
}
