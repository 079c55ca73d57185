package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/configs"
)

// TestMain makes what tests write safe from the group, whatever the umask of who runs them.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

// gwWith runs the command line with something on its standard input.
func gwWith(stdin string, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), code
}

// starter writes a starter configuration with `gw init`.
func starter(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, stderr, code := gw("init", "--dir", dir); code != 0 {
		t.Fatalf("init: exit %d: %s", code, stderr)
	}
	return dir
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	dir := starter(t)
	site, key := filepath.Join(dir, "site.hcl"), filepath.Join(dir, "red-1.key")
	open := filepath.Join(dir, "gray-1.key")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	broken := writeFile(t, filepath.Join(t.TempDir(), "x.hcl"), "site {\n}\n")
	tests := []struct {
		args   []string
		code   int
		stderr string // is in it
	}{
		{[]string{"--help"}, 0, ""},
		{[]string{"up", "--help"}, 0, ""},
		{nil, 2, "see `gw --help`"},
		{[]string{"upp"}, 2, "gw: unexpected argument upp"},
		{[]string{"validate"}, 2, "gw: missing flags: --config"},
		{[]string{"validate", "--nope"}, 2, "gw: unknown flag --nope"},
		{[]string{"validate", "-c", site}, 0, ""},
		{[]string{"validate", "-c", site, "--key", key}, 0, ""},
		{[]string{"validate", "-c", broken}, 2, "gw: 1 mistake in the configuration: correct what is shown above\n"},
		{[]string{"validate", "-c", filepath.Join(dir, "absent")}, 2, "Check the path"},
		{[]string{"validate", "-c", site, "--key", site}, 2, "holds no private"},
		{[]string{"validate", "-c", site, "--key", open}, 2, "chmod 600"},
		{[]string{"up", "-c", site}, 2, "several private keys belong to nodes"},
		{[]string{"fmt", site}, 0, ""},
		{[]string{"fmt", broken, filepath.Join(dir, "absent")}, 1, "absent"},
		{[]string{"render", "-c", site, "--for", "red"}, 0, ""},
		{[]string{"render", "-c", site, "--for", "rad"}, 2, `Did you mean "red"?`},
		{[]string{"render", "-c", broken, "--for", "red"}, 2, "1 mistake"},
		{[]string{"pubkey"}, 1, "gw: standard input holds no private key"},
		{[]string{"init", "--dir", dir}, 1, "site.hcl is there already and is left as it is"},
		{[]string{"init", "--dir", t.TempDir(), "--red-subnet", "10.0.0.0/33"}, 2, "--red-subnet"},
		{[]string{"init", "--dir", t.TempDir(), "--red-subnet", "10.77.0.0/16"}, 2, "overlaps"},
		{[]string{"init", "--dir", t.TempDir(), "--endpoint", "here"}, 2, "is not an endpoint"},
		{[]string{"completion", "tcsh"}, 2, "tcsh"},
		{[]string{"status", "--socket", filepath.Join(dir, "no.sock")}, 1, "gw up"},
		{[]string{"status", "--socket", "a", "--node", "b"}, 2, "can't be used together"},
		{[]string{"conns", "--node", "../x"}, 2, "give the name of a node"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var stderr string
			var code int
			aside(t, func() { _, stderr, code = gw(tt.args...) })
			if code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if !strings.Contains(stderr, tt.stderr) || (tt.code == 0) != (stderr == "") {
				t.Errorf("stderr: %s", stderr)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	stdout, _, _ := gw("--help")
	checkWidth(t, stdout)
	checkGolden(t, "help.txt", stdout)
}

func TestValidate(t *testing.T) {
	var text, asJSON string
	t.Run("mistakes", func(t *testing.T) {
		t.Chdir(t.TempDir()) // a short path, so that lines break at the same words anywhere
		site := writeFile(t, "site.hcl", "link \"red\" \"gray\" {\n  initiator = \"red\"\n  keepalve  = \"5s\"\n}\n")
		stdout, stderr, code := gw("validate", "-c", site)
		if code != 2 || stdout != "" {
			t.Errorf("exit %d, stdout %q", code, stdout)
		}
		text = stderr
		asJSON, stderr, code = gw("validate", "--json", "-c", site)
		if code != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit %d, stderr %q", code, stderr)
		}
	})
	checkGolden(t, "validate.txt", text)
	checkGolden(t, "validate.json", asJSON)

	dir := starter(t)
	if err := os.Remove(filepath.Join(dir, "gray-1.key")); err != nil {
		t.Fatal(err)
	}
	stdout, _, code := gw("validate", "-c", dir)
	want := "valid: 2 sites, 1 link, 2 rules; this is node red-1 of site red\nread: " + filepath.Join(dir, "site.hcl") + "\n"
	if code != 0 || stdout != want {
		t.Errorf("exit %d: %s", code, stdout)
	}
	var v validation
	stdout, _, _ = gw("validate", "--json", "-c", dir)
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || !v.Valid || v.Node != "red-1" || v.Diagnostics == nil {
		t.Errorf("%v: %s", err, stdout)
	}
}

func TestKeys(t *testing.T) {
	// RFC 7748, section 6.1.
	stdout, _, code := gwWith("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n", "pubkey")
	if code != 0 || stdout != "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	one, _, _ := gw("genkey")
	two, _, _ := gw("genkey")
	if one == two || len(one) != 45 {
		t.Errorf("genkey printed %d bytes", len(one))
	}
	if _, stderr, code := gwWith(one, "pubkey"); code != 0 {
		t.Errorf("pubkey refuses what genkey made: %s", stderr)
	}

	// A file that others may read is written, but not in silence.
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "open.key"), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stderr bytes.Buffer
	if code := run([]string{"genkey"}, strings.NewReader(""), f, &stderr); code != 0 || !strings.Contains(stderr.String(), "chmod 600") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestVersion(t *testing.T) {
	defer func(v string) { version = v }(version)
	version = "v1.2.3"
	stdout, _, code := gw("version")
	if code != 0 || !strings.HasPrefix(stdout, "gw v1.2.3 (go") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	stdout, _, _ = gw("version", "--json")
	var v buildVersion
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Version != "v1.2.3" || v.Go == "" {
		t.Errorf("%v: %s", err, stdout)
	}
	version = ""
	if versionText() == "" {
		t.Error("no version without the release build's flag")
	}
}

func TestRenderAndReference(t *testing.T) {
	dir := starter(t)
	for _, args := range [][]string{{"render", "-c", dir, "--for", "gray"}, {"reference"}} {
		stdout, stderr, code := gw(args...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, stderr)
		}
		file := writeFile(t, filepath.Join(t.TempDir(), "out.hcl"), stdout)
		if _, diags := configs.Load([]string{file}, configs.Options{Key: configs.KeyIgnored}); len(diags.List) > 0 {
			t.Errorf("%v prints what doesn't load: %v", args, diags.List)
		}
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	stdout, stderr, code := gw("init", "--dir", dir)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkGolden(t, "init.txt", strings.ReplaceAll(stdout, dir, "DIR"))
	for name, mode := range map[string]os.FileMode{"site.hcl": 0o644, "red-1.key": 0o600, "gray-1.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for _, node := range []string{"red-1", "gray-1"} {
		cfg, diags := configs.Load([]string{filepath.Join(dir, "site.hcl")}, configs.Options{KeyFile: filepath.Join(dir, node+".key")})
		if len(diags.List) > 0 || cfg.SelfNode().Name != node {
			t.Errorf("%s can't go up: %v", node, diags.List)
		}
	}
	if out, _, _ := gw("init", "--dir", dir+"2", "--endpoint", exampleEndpoint); strings.Contains(out, "only an example") {
		t.Error("an endpoint that was given is called an example, since it is the example's")
	}
	// What is there is kept, and nothing is added to it.
	before, _ := os.ReadFile(filepath.Join(dir, "red-1.key"))
	if err := os.Remove(filepath.Join(dir, "site.hcl")); err != nil {
		t.Fatal(err)
	}
	if _, _, code := gw("init", "--dir", dir); code != 1 {
		t.Errorf("exit %d over old keys", code)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "red-1.key"))
	if !bytes.Equal(before, after) {
		t.Error("an old key was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "site.hcl")); err == nil {
		t.Error("half a configuration was left behind")
	}
}

func TestInitNamesAndFamilies(t *testing.T) {
	dir := t.TempDir()
	stdout, stderr, code := gw("init", "--dir", dir, "--red-name", "inside", "--gray-name", "dmz", "--red-subnet", "fd00:1::/64",
		"--gray-subnet", "fd00:2::/64", "--endpoint", "[2001:db8::7]:500")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"inside-1.key", "ip6 saddr RED_GATEWAY ip6 daddr 2001:db8::7 udp dport 500 accept"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in: %s", want, stdout)
		}
	}
	if strings.Contains(stdout, "only an example") {
		t.Error("a given endpoint is called an example")
	}
}

func TestFmt(t *testing.T) {
	const ugly, pretty = "log {\nlevel=\"info\"\n  json   = true\n}\n", "log {\n  level = \"info\"\n  json  = true\n}\n"
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "a.hcl"), ugly)
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.hcl")
	if err := os.Symlink("a.hcl", link); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	stdout, _, code := gw("fmt", "--check", file)
	if code != 1 || stdout != file+"\n" || text() != ugly {
		t.Errorf("--check: exit %d: %s", code, stdout)
	}
	stdout, _, code = gw("fmt", "--diff", file)
	want := "--- " + file + "\n+++ " + file + "\n@@ -1,4 +1,4 @@\n log {\n-level=\"info\"\n-  json   = true\n+  level = \"info\"\n+  json  = true\n }\n"
	if code != 0 || text() != ugly {
		t.Errorf("--diff: exit %d", code)
	}
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("--diff (-want +got):\n%s", diff)
	}
	if _, _, code = gw("fmt", "--diff", "--check", file); code != 1 {
		t.Errorf("--diff --check: exit %d", code)
	}
	stdout, stderr, code := gw("fmt", link)
	if code != 0 || stdout+stderr != "" || text() != pretty {
		t.Errorf("exit %d, %s%s now %s", code, stdout, stderr, text())
	}
	if info, err := os.Lstat(file); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode is now %v", info.Mode())
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the symbolic link is gone")
	}
	if _, _, code = gw("fmt", "--check", file); code != 0 {
		t.Errorf("--check when formatted: exit %d", code)
	}
	broken := writeFile(t, filepath.Join(dir, "b.hcl"), "log {{\n")
	if _, stderr, code = gw("fmt", broken, file); code != 2 || !strings.Contains(stderr, "b.hcl:1,6: error") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnifiedDiff(t *testing.T) {
	old := "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\no"
	tests := []struct{ name, new, want string }{
		{"far apart", strings.NewReplacer("b", "B", "m", "M").Replace(old),
			"@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -10,6 +10,6 @@\n j\n k\n l\n-m\n+M\n n\n o\n\\ No newline at end of file\n"},
		{"near", strings.NewReplacer("e", "E", "h", "H").Replace(old),
			"@@ -2,10 +2,10 @@\n b\n c\n d\n-e\n+E\n f\n g\n-h\n+H\n i\n j\n k\n"},
		{"line gone", strings.Replace(old, "h\n", "", 1), "@@ -5,7 +5,6 @@\n e\n f\n g\n-h\n i\n j\n k\n"},
		{"end", old + "\n", "@@ -12,4 +12,4 @@\n l\n m\n n\n-o\n\\ No newline at end of file\n+o\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := unifiedDiff("f", []byte(old), []byte(tt.new))
			if diff := cmp.Diff("--- f\n+++ f\n"+tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "gw") // t.TempDir may be longer than what a socket takes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := func(name string) string { return filepath.Join(dir, name+".sock") }
	check := func(f socketFlags, want, wantErr string) {
		t.Helper()
		got, err := f.resolveIn(dir)
		if got != want || (err != nil) != (wantErr != "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%+v: %q, %v", f, got, err)
		}
	}
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path(name)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false) // as a killed process leaves it
		t.Cleanup(func() { l.Close() })
		return l
	}

	check(socketFlags{Socket: "/x"}, "/x", "")
	check(socketFlags{Node: "red-1"}, path("red-1"), "")
	check(socketFlags{}, "", "no gateway is running here")
	a := listen("a")
	check(socketFlags{}, path("a"), "")
	listen("b")
	check(socketFlags{}, "", path("a")+", "+path("b"))
	a.Close()
	check(socketFlags{}, path("b"), "")
	if _, err := (socketFlags{}).resolveIn(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "gw up") {
		t.Errorf("without the directory: %v", err)
	}
}

// failing is a full disk.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestOutputFails(t *testing.T) {
	for _, args := range [][]string{{"genkey"}, {"version"}, {"version", "--json"}, {"reference"}} {
		if code := run(args, strings.NewReader(""), failing{}, io.Discard); code != exitFailed {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
