package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
)

// TestOperator: what an operator asks names what is wrong: a port that no rule
// allows, one to a closed port, and a gateway that is gone. The audit log has
// the connection that was allowed.
func TestOperator(t *testing.T) {
	t.Parallel() // it waits most of the time
	audit := filepath.Join(t.TempDir(), "audit.log")
	// A rule names the gateway itself where `gw ping ADDRESS --port` is to reach a database.
	n := newNetwork(t, setup{rules: strings.Replace(replication, `["red"]`, `["red", "red-1"]`, 1)})
	n.red.edit(`log { level`, "audit { to = "+strconv.Quote(audit)+" }\n  log { level")
	n.start()
	n.red.waitStatus("hellos have come back", func(s status.Status) bool { return s.Links[0].Measured() })
	ask := func(want int, says []string, args ...string) {
		t.Helper()
		code, out := n.red.run(t, append(args, "--socket", n.red.socket)...)
		check(t, code, want, strings.Join(strings.Fields(out), " "), says...)
	}
	far := n.Gray.DB().LAN4.String()
	ask(0, []string{"0 failures", "ok: link gray-1 state: up", "ok: policy settings: the same"}, "doctor")
	ask(0, []string{"ok: link gray-1", "ok: gateway gray-1"}, "ping", "gray-1")
	ask(1, []string{"failure: port " + far + ":5999: denied"}, "ping", far, "--port", "5999")
	ask(1, []string{"failure: port " + far + ":5432: refused"}, "ping", far, "--port", "5432")

	n.gray.kill()
	n.red.waitStatus("the link is gone", func(s status.Status) bool { return !s.Links[0].State.Carries() })
	ask(1, []string{"failure: link gray-1 state:", "see that gw runs on gray-1"}, "doctor")
	ask(1, []string{"failure: link gray-1", "failure: gateway gray-1"}, "ping", "gray-1", "-c", "1")
	ask(0, []string{"written:"}, "bundle", "-o", filepath.Join(t.TempDir(), "b.tar.gz"))

	n.red.term() // writes what waits
	b, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{`"event":"flow_open"`, `"event":"flow_end"`, `"destination":"` + far + `:5432"`, `"rule":"out"`, `"reason":"reset"`} {
		if !strings.Contains(string(b), s) {
			t.Errorf("the audit log has no %s:\n%s", s, b)
		}
	}
	if strings.Contains(string(b), ":5999") {
		t.Errorf("the audit log has a flow that was denied:\n%s", b)
	}
}
