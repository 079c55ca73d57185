package journal

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// TestLines: flows, reloads and events of a pair become lines of the audit log.
func TestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := audit.Open(audit.Config{To: path, Node: "red-1", Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	j := New(Config{
		Audit: log, Denials: denials.New(2), Sites: []string{"red", "gray"}, Self: 0,
		Now: func() time.Duration { return 0 }, Logger: hclog.NewNullLogger(),
	})
	c := flow.Conn{
		Proto: wire.ProtoTCP, Source: netip.MustParseAddrPort("10.77.2.10:40000"), Destination: netip.MustParseAddrPort("10.77.1.10:5432"),
		Site: "gray", Rule: flow.Rule{Name: "replication"}, BytesIn: 7, Age: time.Second,
	}
	o := j.Observer()
	o.Opened(c, flow.CameNew)
	c.WasRelayed = true
	o.Ended(c, "closed")
	j.Reload(status.Reload{Applied: true, Revoked: 2, Config: status.Config{Changes: []status.Change{{Attribute: "policy.rule.x"}}}})
	j.Reload(status.Reload{Config: status.Config{Mistakes: []status.Mistake{{Summary: "no such site"}}}})
	j.Reload(status.Reload{Config: status.Config{Changes: []status.Change{{Attribute: "local.tun.mtu", Effect: status.EffectRestart}}}})
	j.Pair("active", []any{"reason", "takeover", "epoch", 5})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for line := range bytes.Lines(b) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, e)
	}
	want := []map[string]any{
		{"event": "flow_open", "proto": "tcp", "source_site": "gray", "destination_site": "red", "rule": "replication"},
		{"event": "flow_end", "reason": "closed", "bytes_in": 7.0, "carried": "relayed"},
		{"event": "reload", "outcome": "done", "changes": "policy.rule.x", "connections_ended": "2"},
		{"event": "reload", "outcome": "refused", "mistakes": "no such site"},
		{"event": "reload", "outcome": "refused", "needs_restart": "local.tun.mtu"},
		{"event": "active", "reason": "takeover", "epoch": "5"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines:\n%s", len(got), b)
	}
	for i, w := range want {
		all := map[string]any{}
		flatten(all, got[i])
		for k, v := range w {
			if all[k] != v {
				t.Errorf("line %d: %s is %v, want %v: %v", i, k, all[k], v, got[i])
			}
		}
	}
	if New(Config{Logger: hclog.NewNullLogger()}).Observer() != nil {
		t.Error("flows are observed without an audit log")
	}
}

// flatten copies the values of e, and of the objects in it.
func flatten(to, e map[string]any) {
	for k, v := range e {
		if m, ok := v.(map[string]any); ok {
			flatten(to, m)
		} else {
			to[k] = v
		}
	}
}
