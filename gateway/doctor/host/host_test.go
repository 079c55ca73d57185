package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
)

// TestChecks: what a survey finds becomes checks, and what is in order one that says so.
func TestChecks(t *testing.T) {
	got := checks([]hostnet.Subject{
		{Name: "tun device"},
		{Name: "firewall", Findings: []hostnet.Finding{
			{Level: hostnet.Warning, What: "drops some", Mend: "nft …"},
			{Level: hostnet.Fatal, What: "drops all", Mend: "nft flush ruleset"},
		}},
	})
	want := []doctor.Check{
		{Area: "host", Name: "tun device", Level: doctor.OK, What: "as it should be"},
		{Area: "host", Name: "firewall", Level: doctor.Warning, What: "drops some", Do: "nft …"},
		{Area: "host", Name: "firewall", Level: doctor.Failure, What: "drops all", Do: "nft flush ruleset"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestDisk: a state directory that is missing is judged by its parent, and one that cannot be
// written is a failure.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "a", "b")
	if got := diskCheck(missing); got.Level == doctor.Failure || got.Name != missing || !strings.Contains(got.What, "MiB free") {
		t.Errorf("missing: %+v", got)
	}
	if _, err := os.Stat(filepath.Dir(missing)); !os.IsNotExist(err) {
		t.Errorf("the check made a directory: %v", err)
	}
	if got := diskCheck(filepath.Join(file, "below")); got.Level != doctor.Failure || !strings.Contains(got.Do, "findmnt") {
		t.Errorf("below a file: %+v", got)
	}
}

// TestExamine: without a gateway, host and disk are examined; with one, its snapshot too.
func TestExamine(t *testing.T) {
	cfg := partstest.Network()
	cfg.Local.StateDir = t.TempDir()
	areas := func(r doctor.Report) map[string]bool {
		out := map[string]bool{}
		for _, c := range r.Checks {
			out[c.Area] = true
		}
		return out
	}
	r := Examine(cfg, nil)
	if got := areas(r); r.Running || r.Node != "red-1" || !got["host"] || !got["disk"] || got["link"] {
		t.Errorf("no gateway: %+v", r)
	}
	r = Examine(cfg, doctor.NewWatch(nil).Checks(status.Status{Node: "red-1"}))
	if got := areas(r); !r.Running || !got["host"] || !got["disk"] || !got["link"] {
		t.Errorf("a gateway without links: %+v", r)
	}
}
