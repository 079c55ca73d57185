package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// TestHealth: the exit code says whether the node can serve; a fault that disables nothing is shown
// and changes nothing.
func TestHealth(t *testing.T) {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	warning := status.Fault{
		Fault: "address-taken", Stands: true, Part: "none", What: "02:00:5e:00:00:07 answers for 10.77.1.254",
		Do: "give that host another address", Since: now.Add(-time.Hour),
	}
	down := status.Fault{
		Fault: "lan-silent", Stands: true, Part: "lan", What: "lan0 is up, and none of 3 hosts on the LAN has answered for 4s",
		Do: "see the switch, the VLAN, and filters on lan0: ip neigh show dev lan0", Since: now.Add(-4 * time.Second),
	}
	for _, c := range []struct {
		golden string
		faults []status.Fault
		code   int
	}{
		{"health-fit.txt", []status.Fault{{Fault: "stuck", Raised: 2}}, exitOK},
		{"health-warned.txt", []status.Fault{warning}, exitOK},
		{"health-unfit.txt", []status.Fault{warning, down}, exitFailed},
	} {
		socket := serve(t, madeUp{status: status.Status{Node: "red-1", Time: now, Faults: c.faults}})
		stdout, stderr, code := gw("health", "--socket", socket)
		if code != c.code || stderr != "" {
			t.Errorf("%s: exit %d, %s", c.golden, code, stderr)
		}
		checkWidth(t, stdout)
		checkGolden(t, c.golden, stdout)
		stdout, _, code = gw("health", "--json", "--socket", socket)
		var f status.Fitness
		if err := json.Unmarshal([]byte(stdout), &f); err != nil || code != c.code || f.Fit != (c.code == exitOK) || len(f.Faults) != len(c.faults) {
			t.Errorf("%s: exit %d, %v: %s", c.golden, code, err, stdout)
		}
	}
	_, stderr, code := gw("health", "--socket", t.TempDir()+"/none.sock")
	if code != exitFailed || !strings.Contains(stderr, "systemctl start gw") {
		t.Errorf("without a gateway: exit %d, %s", code, stderr)
	}
}
