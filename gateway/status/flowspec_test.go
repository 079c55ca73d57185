package status

import (
	"net/netip"
	"strings"
	"testing"
)

func TestFlowSpec(t *testing.T) {
	ap := netip.MustParseAddrPort
	a, b := ap("10.77.2.10:40000"), ap("10.77.1.10:5432")
	for _, tt := range []struct {
		text, normal string
		matches      bool // tcp from a to b
		err          string
	}{
		{text: "", normal: "any any", matches: true},
		{text: "10.77.2.10:40000 10.77.1.10:5432 tcp", normal: "10.77.2.10:40000 10.77.1.10:5432 tcp", matches: true},
		{text: "10.77.1.10:5432,10.77.2.10,tcp", normal: "10.77.1.10:5432 10.77.2.10 tcp", matches: true},
		{text: "tcp 10.77.1.10:5432", normal: "10.77.1.10:5432 any tcp", matches: true},
		{text: "any 10.77.1.10", normal: "any 10.77.1.10", matches: true},
		{text: "::ffff:10.77.1.10", normal: "10.77.1.10 any", matches: true},
		{text: "10.77.2.10:40001", normal: "10.77.2.10:40001 any"},
		{text: "10.77.2.10 10.77.2.10", normal: "10.77.2.10 10.77.2.10"},
		{text: "10.77.2.10 udp", normal: "10.77.2.10 any udp"},
		{text: "[fd77:1::a]:5432 fd77:2::a", normal: "[fd77:1::a]:5432 fd77:2::a"},
		{text: "10.77.2.10:x", err: `"10.77.2.10:x" is no end`},
		{text: "fe80::1%eth0", err: "is no end"},
		{text: "[fe80::1%eth0]:1", err: "is no end"},
		{text: "tcp udp", err: "names two protocols"},
		{text: "any any any", err: `"any" is neither`},
		{text: "10.77.2.10:1 icmp", err: "icmp has no ports"},
		{text: "10.77.2.10 fd77::1", err: "mixes"},
	} {
		f, err := ParseFlowSpec(tt.text)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v, want %q", tt.text, err, tt.err)
			}
			continue
		}
		if err != nil || f.String() != tt.normal {
			t.Errorf("%q: %q, %v, want %q", tt.text, f, err, tt.normal)
		}
		if f.Matches("tcp", a, b) != tt.matches || f.Matches("tcp", b, a) != tt.matches {
			t.Errorf("%q: matches %v, and the other way %v, want %v", tt.text, f.Matches("tcp", a, b), f.Matches("tcp", b, a), tt.matches)
		}
	}
}

func FuzzFlowSpec(f *testing.F) {
	f.Add("10.77.2.10:40000 10.77.1.10:5432 tcp")
	f.Add("any,[fd77:1::a]:5432,udp")
	f.Add("icmp any")
	f.Fuzz(func(t *testing.T, text string) {
		one, err := ParseFlowSpec(text)
		if err != nil {
			return
		}
		if two, err := ParseFlowSpec(one.String()); err != nil || one != two {
			t.Fatalf("%q is written as %q, which reads as %q: %v", text, one, two, err)
		}
		if !one.Matches(one.Proto, one.A, one.B) && one.A.IsValid() && one.B.IsValid() {
			t.Fatalf("%q does not match itself", text)
		}
	})
}
