package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/onewaylink/gw"

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	// TestImports and XTestImports are what its tests import.
	TestImports, XTestImports []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode the output of go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// under reports whether path is dir or lies below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func isTest(path string) bool { return under(path, module+"/tests") }

// sole names the libraries that only one part of the house may touch.
var sole = []struct{ path, owner string }{
	{"github.com/alecthomas/kong", "cmd/gw"},
	{"github.com/hashicorp/hcl/v2", "configs"},
	{"github.com/zclconf/go-cty", "configs"},
	{"github.com/songgao/water", "gateway/hostnet"},
	{"golang.zx2c4.com/wireguard", "gateway/link"},
	{"github.com/prometheus/client_golang", "gateway/status"},
	{"gvisor.dev/gvisor", "netstack"},
	{"github.com/mdlayher/packet", "ha"},
	{"github.com/mdlayher/ndp", "ha"},
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	for _, p := range list(t) {
		if isTest(p.ImportPath) {
			continue
		}
		for _, i := range p.Imports {
			for _, s := range sole {
				if under(i, s.path) && !under(p.ImportPath, module+"/"+s.owner) {
					t.Errorf("%s imports %s, which only %s may import", p.ImportPath, i, s.owner)
				}
			}
		}
	}
}

// below names what a package of this module may import of this module; a
// package that is not listed is a leaf.
var below = map[string][]string{
	"cmd/gw": {"configs", "gateway", "gateway/control", "gateway/doctor", "gateway/doctor/host", "gateway/epoch/reset", "gateway/holds", "gateway/hostnet", "gateway/process", "gateway/safefile", "gateway/status"},
	"gateway": {
		"configs", "gateway/audit", "gateway/capture", "gateway/capture/serve", "gateway/control", "gateway/denials", "gateway/doctor", "gateway/doctor/host", "gateway/explain", "gateway/flow", "gateway/health", "gateway/holds", "gateway/hostnet", "gateway/journal", "gateway/link",
		"gateway/pair", "gateway/parts", "gateway/pulse", "gateway/quota", "gateway/records", "gateway/relay", "gateway/reload", "gateway/restore", "gateway/sites", "gateway/status", "gateway/waker", "gateway/web", "ha", "ha/neighbor", "ha/vip", "netstack", "netstack/legs", "netstack/wire",
	},
	"gateway/link/bind/udp":         {"gateway/link/bind"},
	"gateway/link/bind/carriertest": {"gateway/link/bind"},

	"gateway/audit":         {"gateway/safefile"},
	"gateway/control":       {"gateway/status"},
	"gateway/capture/serve": {"gateway/capture", "gateway/control", "gateway/status", "netstack/wire"},
	"gateway/flow/hosttest": {"netstack/wire"},
	"gateway/flow/tcptrack": {"netstack/wire"},
	"gateway/capture":       {"netstack/wire"},
	"gateway/ask":           {"gateway/quiet", "gateway/quota", "gateway/streams"},
	"gateway/epoch/reset":   {"configs", "gateway/epoch", "gateway/records", "ha"},
	"gateway/holds":         {"configs", "gateway/hostnet", "gateway/parts"},
	"gateway/explain": {
		"configs", "gateway/ask", "gateway/capture", "gateway/control", "gateway/doctor", "gateway/flow", "gateway/parts", "gateway/quota", "gateway/status", "netstack/wire",
	},
	"gateway/doctor/host":     {"configs", "gateway/control", "gateway/doctor", "gateway/hostnet", "gateway/parts", "gateway/status"},
	"gateway/doctor":          {"gateway/status"},
	"gateway/flow":            {"gateway/capture", "gateway/denials", "gateway/flow/tcptrack", "netstack/wire"},
	"gateway/hostnet":         {"netstack/wire"},
	"gateway/journal":         {"gateway/audit", "gateway/denials", "gateway/flow", "gateway/reload", "gateway/status"},
	"gateway/link":            {"gateway/link/bind", "gateway/link/bind/udp", "gateway/link/hello", "gateway/quiet", "netstack/wire"},
	"gateway/pair":            {"gateway/control", "gateway/doctor", "gateway/epoch", "gateway/quiet", "gateway/status", "ha"},
	"gateway/parts":           {"configs", "gateway/flow", "gateway/hostnet", "gateway/link", "gateway/link/hello", "gateway/sites", "netstack/wire", "policy"},
	"gateway/parts/partstest": {"configs"},
	"gateway/records":         {"gateway/quiet", "gateway/quota", "gateway/streams"},
	"gateway/reload":          {"configs", "gateway/control", "gateway/flow", "gateway/parts", "gateway/status", "netstack/wire"},
	"gateway/relay":           {"gateway/flow", "gateway/link", "gateway/quiet", "gateway/sites", "gateway/status", "gateway/trunk", "netstack/legs", "netstack/wire"},
	"gateway/restore":         {"gateway/flow", "gateway/quiet", "gateway/quota", "gateway/records", "gateway/sites", "netstack/wire"},
	"gateway/sites":           {"gateway/flow", "gateway/link"},
	"gateway/waker":           {"gateway/sites"},
	"gateway/streams":         {"gateway/quiet", "gateway/quota"},
	"gateway/trunk":           {"netstack/wire"},
	"gateway/status":          {"gateway/quiet"},
	"gateway/web":             {"gateway/doctor", "gateway/quiet", "gateway/status"},
	"netstack":                {"netstack/wire"},
	"netstack/legs":           {"netstack/legs/rule", "netstack/wire"},
	"netstack/legs/rule":      {"netstack/wire"},
	"ha/neighbor":             {"ha/vip/arp"},
	"ha/vip":                  {"ha/vip/arp"},
}

func TestImportsRunDownward(t *testing.T) {
	for _, p := range list(t) {
		if isTest(p.ImportPath) {
			continue
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, i := range p.Imports {
			if !under(i, module) {
				continue
			}
			what := strings.TrimPrefix(i, module+"/")
			allowed := false
			for _, a := range below[name] {
				allowed = allowed || what == a
			}
			if !allowed {
				t.Errorf("%s imports %s: not in the table of docs/design.md", name, what)
			}
		}
	}
}

// TestTableIsTrue: no row allows what no package uses, and only the command line stands above the
// wiring.
func TestTableIsTrue(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range list(t) {
		imports[strings.TrimPrefix(p.ImportPath, module+"/")] = p.Imports
	}
	for name, allowed := range below {
		if imports[name] == nil {
			t.Errorf("there is no package %s", name)
		}
		for _, a := range allowed {
			if !slices.Contains(imports[name], module+"/"+a) {
				t.Errorf("%s does not import %s: remove it from the table", name, a)
			}
			if a == "cmd/gw" || a == "gateway" && name != "cmd/gw" {
				t.Errorf("%s may not import %s, which is above it", name, a)
			}
		}
	}
}

// TestNothingReachesUp: a package's tests import nothing that stands above the package, by the
// table. A package of fakes (wiretest, linktest) stands beside the one that it serves. External
// tests may import what lies in the package's own directory: an implementation of its interface, or
// a fake.
func TestNothingReachesUp(t *testing.T) {
	above := map[string]map[string]bool{} // above[a][b]: b imports a, perhaps by way of others
	var climb func(low, high string)
	climb = func(low, high string) {
		if above[low] == nil {
			above[low] = map[string]bool{}
		}
		above[low][high] = true
		for _, next := range below[low] {
			climb(next, high)
		}
	}
	for name, lower := range below {
		for _, low := range lower {
			climb(low, name)
		}
	}
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			what := strings.TrimPrefix(i, module+"/")
			own := under(what, name) && slices.Contains(p.XTestImports, i)
			if above[name][what] && !own {
				t.Errorf("%s or its tests import %s, which stands above it", name, what)
			}
			if i == module+"/gateway" && !isTest(p.ImportPath) && name != "cmd/gw" && name != "gateway" {
				t.Errorf("%s or its tests import gateway, which only cmd/gw may", name)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t) {
		if len(p.Doc) < 20 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
