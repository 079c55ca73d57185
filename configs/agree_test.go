package configs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAgreements: whom a change concerns beside this node, and what comes of it there.
func TestAgreements(t *testing.T) {
	text := read(t, "testdata/full.hcl")
	running := as(mustLoad(t, text), 0, 0)
	for _, tt := range []struct {
		name, old, new string
		want           []Agreement
	}{
		{"nothing", "", "", nil},
		{"what is this machine's", `"eth0"`, `"eth1"`, nil},
		{"the pair's time", `dead_after = "300ms"`, `dead_after = "400ms"`, []Agreement{{Site: "red", Refused: []string{"site.red.pair.dead_after"}}}},
		{"the pair's wish", `heartbeat  = "100ms"`, "heartbeat = \"100ms\"\n wake = false", []Agreement{{Site: "red", Shown: []string{"site.red.pair.wake"}}}},
		{"subnets", `["10.77.2.0/24", "fd77:2::/64"]`, `["10.77.2.0/24", "fd77:2::/64", "10.77.22.0/24"]`, []Agreement{
			{Site: "red", Refused: []string{"site.gray.subnets"}}, {Site: "gray", Refused: []string{"site.gray.subnets"}},
		}},
		{"keepalive", `"20s"`, `"10s"`, []Agreement{
			{Site: "red", Shown: []string{"link.gray.red.keepalive"}}, {Site: "gray", Shown: []string{"link.gray.red.keepalive"}},
		}},
		{"another rule", "policy {", "policy {\n rule \"a\" {\n from = [\"gray\"]\n to = [\"red\"]\n ports = [\"icmp\"]\n }\n", []Agreement{
			{Site: "red", Shown: []string{"policy.rule.a"}}, {Site: "gray", Shown: []string{"policy.rule.a"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(text, tt.old) {
				t.Fatalf("the file has no %q", tt.old)
			}
			next := as(mustLoad(t, strings.Replace(text, tt.old, tt.new, 1)), 0, 0)
			if d := cmp.Diff(tt.want, Agreements(running, next)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
