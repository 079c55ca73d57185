package configs

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite golden files")

// compareAddrs lets cmp look at addresses, which keep their fields to themselves.
var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// loadText loads one made-up file.
func loadText(text string, opt Options) (Config, Diagnostics) {
	c := newCollector()
	cfg := c.load([]source{{name: "site.hcl", text: []byte(text)}}, opt)
	return cfg, c.result()
}

// mustLoad loads a file that has no mistake.
func mustLoad(t *testing.T, text string) Config {
	t.Helper()
	cfg, diags := loadText(text, Options{Key: KeyIgnored})
	if diags.HasErrors() {
		diags.WriteDiagnostics(t.Output(), false)
		t.Fatal("configuration refused")
	}
	return cfg
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLoadTyped(t *testing.T) {
	text := read(t, "testdata/full.hcl")
	got := mustLoad(t, text)
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	key := func(s string) Key {
		k, err := ParseKey(s)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	gray := []netip.Prefix{prefix("10.77.2.0/24"), prefix("fd77:2::/64")}
	want := Config{
		Files: []string{"site.hcl"},
		Sites: []Site{{
			Name:    "red",
			Subnets: []netip.Prefix{prefix("10.77.1.0/24"), prefix("fd77:1::/64")},
			Nodes: []Node{
				{Name: "red-1", PublicKey: key(testKeys[0]), Addresses: []netip.Addr{addr("10.77.1.1"), addr("fd77:1::1")}, SiblingEndpoint: "10.77.1.251:4500"},
				{Name: "red-2", PublicKey: key(testKeys[1]), Addresses: []netip.Addr{addr("10.77.1.2")}, SiblingEndpoint: "[fd77:1::252]:4500"},
			},
			Pair: &Pair{VIP: []netip.Prefix{prefix("192.168.1.10/24")}, Heartbeat: 100 * time.Millisecond, DeadAfter: 300 * time.Millisecond, CommandTimeout: 30 * time.Second, Wake: true},
			Pos:  Pos{File: "site.hcl", Line: 1, Column: 1},
		}, {
			Name:    "gray",
			Subnets: gray,
			Nodes:   []Node{{Name: "gray-1", PublicKey: key(testKeys[2]), Addresses: []netip.Addr{addr("10.77.2.1")}, Endpoint: "[2001:db8::10]:51820"}},
			Pos:     Pos{File: "site.hcl", Line: 20, Column: 1},
		}},
		Links: []Link{{A: "red", B: "gray", Initiator: "red", Keepalive: 20 * time.Second, Pos: Pos{File: "site.hcl", Line: 28, Column: 1}}},
		Rules: []Rule{{
			Name: "replication",
			From: []Endpoint{
				{Site: "gray", Whole: true, Prefixes: gray, Except: []netip.Addr{netip.MustParseAddr("10.77.2.1")}},
				{Site: "gray", Node: "gray-1", Prefixes: []netip.Prefix{prefix("10.77.2.1/32")}},
			},
			To: []Endpoint{{Site: "red", Prefixes: []netip.Prefix{prefix("10.77.1.10/32")}}, {Site: "red", Prefixes: []netip.Prefix{prefix("fd77:1::/80")}}},
			Ports: []PortRange{
				{Proto: ProtoTCP, Lo: 5432, Hi: 5432}, {Proto: ProtoTCP, Lo: 5000, Hi: 5010}, {Proto: ProtoUDP, Lo: 53, Hi: 53},
				{Proto: ProtoICMP, Hi: 65535}, {Proto: ProtoTCP, Hi: 65535}, {Proto: ProtoUDP, Hi: 65535}, {Proto: ProtoAny, Hi: 65535},
			},
			Mode: ModeRelay,
			Pos:  Pos{File: "site.hcl", Line: 34, Column: 3},
		}},
		Local: Local{
			StateDir: "/srv/gw", Socket: "gw.sock", LAN: "eth0", ListenPort: 4500, Check: true, Answers: AnswersFull,
			TUN:    TUN{Name: "tun7", MTU: 1280, Driver: DriverWater, Persist: true, CongCtl: "bbr"},
			Status: Status{Listen: "127.0.0.1:9770"},
			Log:    Log{Level: "debug", JSON: true}, Capture: Capture{Memory: 16},
			Limits: Limits{Flows: 1000, Relays: 20, Trunks: 8 << 20, Fragments: 1 << 20, Records: 2 << 20, Audit: 3 << 20},
		},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPortRangeText(t *testing.T) {
	for _, s := range []string{"any", "icmp", "tcp", "udp", "tcp/5432", "udp/53", "tcp/5000-5010"} {
		p, err := parsePorts(s)
		if err != nil || p.String() != s {
			t.Errorf("parsePorts(%q) = %v, %v", s, p, err)
		}
	}
}

func TestLoadMergesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	whole := read(t, "testdata/full.hcl")
	i, j := strings.Index(whole, "policy {"), strings.Index(whole, "local {")
	write("10-sites.hcl", whole[:i])
	write("20-policy.hcl", whole[i:j])
	write("30-local.hcl", whole[j:])
	write(".#10-sites.hcl", "an editor's lock")
	write("notes.txt", "not ours")

	got, diags := Load([]string{dir, filepath.Join(dir, "10-sites.hcl")}, Options{Key: KeyIgnored})
	if diags.HasErrors() {
		diags.WriteDiagnostics(t.Output(), false)
		t.Fatal("configuration refused")
	}
	if len(got.Files) != 3 || len(got.Sites) != 2 || len(got.Rules) != 1 || got.Local.TUN.Name != "tun7" {
		t.Errorf("merged into %+v", got)
	}

	write("40-local.hcl", "local {\n  lan = \"eth1\"\n  tun { name = \"other\" }\n}\n")
	_, diags = Load([]string{dir}, Options{Key: KeyIgnored})
	at := filepath.Join(dir, "30-local.hcl")
	want := []string{
		filepath.Join(dir, "40-local.hcl") + ":2,3: lan is set again, first at " + at + ":4,3",
		filepath.Join(dir, "40-local.hcl") + ":3,9: name is set again, first at " + at + ":7,5",
	}
	if diff := cmp.Diff(want, lines(diags)); diff != "" {
		t.Errorf("two local blocks (-want +got):\n%s", diff)
	}
}

func TestLoadNothing(t *testing.T) {
	empty := t.TempDir()
	for _, paths := range [][]string{nil, {empty}, {filepath.Join(empty, "absent.hcl")}} {
		if _, diags := Load(paths, Options{}); !diags.HasErrors() {
			t.Errorf("Load(%q) found nothing to say", paths)
		}
	}
}

// lines returns all findings in short, warnings marked.
func lines(d Diagnostics) []string {
	var out []string
	for _, x := range d.List {
		l := x.line()
		if x.Severity == SeverityWarning {
			l = "warning: " + l
		}
		out = append(out, l)
	}
	return out
}

func TestShippedFilesLoad(t *testing.T) {
	files, err := filepath.Glob("examples/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range append(files, "reference.hcl") {
		src := []byte(read(t, f))
		_, diags := LoadFiles([]File{{Name: f, Text: src}}, Options{Key: KeyIgnored}) // the checkout may be anybody's
		if len(diags.List) > 0 {
			diags.WriteDiagnostics(t.Output(), false)
			t.Errorf("%s has findings", f)
		}
		if out, err := Format(f, src); err != nil || !bytes.Equal(out, src) {
			t.Errorf("%s isn't formatted (%v)", f, err)
		}
	}
}

// TestReferenceIsComplete compares the reference with the schema: whatever can
// be written must be explained there, a commented line counts.
func TestReferenceIsComplete(t *testing.T) {
	d := &decoder{collector: newCollector()}
	// The one setting that is shown as a comment becomes a line.
	src := strings.Replace(string(Reference), "# endpoint =", "endpoint =", 1)
	body := d.parse("reference.hcl", []byte(src))
	if body == nil {
		t.Fatal(lines(d.result()))
	}
	var check func(c content, s *bodySchema, path string)
	check = func(c content, s *bodySchema, path string) {
		for _, name := range s.attrs {
			if c.attrs[name] == nil {
				t.Errorf("reference.hcl doesn't show %s%s", path, name)
			}
		}
		for _, b := range s.blocks {
			i := slices.IndexFunc(c.blocks, func(x contentBlock) bool { return x.name == b.name })
			if i < 0 {
				t.Errorf("reference.hcl doesn't show block %s%s", path, b.name)
				continue
			}
			check(c.blocks[i].content, b.body, path+b.name+".")
		}
	}
	check(d.readBody(body, rootSchema), rootSchema, "")
}

// TestReferenceTellsDefaults checks the defaults that the reference names.
func TestReferenceTellsDefaults(t *testing.T) {
	l := mustLoad(t, "site \"a\" {\n subnets = [\"10.0.0.0/24\"]\n node \"a-1\" {\n public_key = \""+testKeys[0]+"\"\n address = \"10.0.0.1\"\n}\n}\n").Local
	want := Local{Answers: AnswersVerdict, TUN: TUN{Name: "gw0", MTU: 1420, Driver: DriverOffload}, Log: Log{Level: "info"}, Capture: Capture{Memory: 4},
		Limits: Limits{Flows: 131072, Relays: 4096, Trunks: 64 << 20, Fragments: 4 << 20, Records: 32 << 20, Audit: 1 << 30}}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, s := range []string{`Default "gw0"`, "Default 1420", "\"offload\"", `Default "info"`, `Default "5s"`, `Default "50ms"`, `Default "150ms"`, `Default "30s"`, `Default true`} {
		if !bytes.Contains(Reference, []byte(s)) {
			t.Errorf("reference.hcl doesn't say %s", s)
		}
	}
}
