package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/messages"
)

// TestErrors makes each mistake that a command line can lead to, and holds what is
// said of it against a golden file: the list of all errors. Those that are said of
// a configuration have their own in configs/testdata.
func TestErrors(t *testing.T) {
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(starter(t)) // short names: lines break at the same words anywhere
	writeFile(t, "full.conf", strings.Repeat("#\n", wgLimit/2+1))
	writeFile(t, "wg0.conf", "[Interface]\nPrivateKey = aPxGwq8zERHQ3Q1cOZFdJ+cvJX5Ka4mLN38AyYKYF10=\nAddress = 10.1.0.1/24\n"+
		"[Peer]\nPublicKey = Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo=\nEndpoint = 192.0.2.1:1\nAllowedIPs = 10.2.0.1/32\n")
	writeFile(t, "ugly.txt", "local {\nlan=\"a\"\n}\n")
	writeFile(t, "broken.txt", "site {\n")
	site, err := os.ReadFile("site.hcl")
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(site), "link \"red\"")
	_, after, _ = strings.Cut(after, "\n}\n")
	writeFile(t, "alone.txt", before+after)
	refuses := serveHA(t, madeUp{}, &madeUpPair{status: activeNode(), err: errors.New("the records of the node that would take over are incomplete: wait, or force it")})
	alone := serve(t, madeUp{status: status.Status{Node: "red-1"}})
	if err := os.Mkdir("here", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"here/a.sock", "here/b.sock"} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}

	mistakes := []struct {
		stdin string
		args  []string
	}{
		{"", nil},
		{"", []string{"upp"}},
		{"", []string{"status", "--jsno"}},
		{"", []string{"ha"}},
		{"", []string{"validate"}},
		{"", []string{"validate", "-c", "absent.hcl"}},
		{"", []string{"validate", "-c", "broken.txt"}},
		{"", []string{"validate", "--json", "-c", "broken.txt"}},
		{"", []string{"up", "-c", "site.hcl"}},
		{"", []string{"hold", "-c", "absent.hcl"}},
		{"", []string{"hold", "-c", "alone.txt", "--key", "red-1.key"}},
		{"", []string{"hold", "-c", "site.hcl", "--key", "red-1.key"}},
		{"", []string{"render", "-c", "site.hcl", "--for", "rad"}},
		{"", []string{"render", "-c", "site.hcl"}},
		{"", []string{"fmt", "absent.txt"}},
		{"", []string{"fmt", "broken.txt"}},
		{"", []string{"fmt", "--check", "ugly.txt"}},
		{"", []string{"init"}},
		{"", []string{"init", "--dir", "."}},
		{"", []string{"init", "--dir", "new", "--endpoint", "here"}},
		{"", []string{"init", "--dir", "new", "--red-subnet", "10.0.0.0/33"}},
		{"", []string{"init", "--dir", "new", "--red-subnet", "10.0.0.1/32"}},
		{"", []string{"init", "--dir", "new", "--red-subnet", "10.77.0.0/16"}},
		{"", []string{"init", "--dir", "site.hcl"}},
		{"", []string{"init", "--dir", "/proc/nowhere"}},
		{"", []string{"init", "--dir", "/proc"}},
		{"", []string{"import", "absent.conf", "--dir", "new"}},
		{"", []string{"import", "here", "--dir", "new"}},
		{"", []string{"import", "full.conf", "--dir", "new"}},
		{"", []string{"import", "broken.txt", "--dir", "new"}},
		{"", []string{"import", "wg0.conf", "--dir", "."}},
		{"", []string{"import", "wg0.conf", "--dir", "site.hcl"}},
		{"", []string{"man", "--dir", "site.hcl"}},
		{"", []string{"man", "--dir", "/proc"}},
		{"no key", []string{"pubkey"}},
		{"", []string{"pubkey"}},
		{"", []string{"completion", "tcsh"}},
		{"", []string{"status", "--socket", "a", "--node", "b"}},
		{"", []string{"status", "--socket", "absent.sock"}},
		{"", []string{"status", "--node", "../x"}},
		{"", []string{"conns", "--socket", alone, "--limit=-1"}},
		{"", []string{"conns", "--socket", alone, "--limit", "many"}},
		{"", []string{"conns", "--socket", alone, "--sort", "idle"}},
		{"", []string{"plan", "-c", "broken.txt", "--socket", "absent.sock"}},
		{"", []string{"plan", "-c", "absent.hcl", "--socket", "absent.sock"}},
		{"", []string{"reload", "--socket", "absent.sock"}},
		{"", []string{"trace", "here", "there", "--socket", alone}},
		{"", []string{"trace", "any", "10.77.1.10:5432", "--socket", alone}},
		{"", []string{"trace", "10.77.2.10:40000", "10.77.1.10", "--socket", alone}},
		{"", []string{"trace", "any", "any", "--live", "--count=-1", "--socket", alone}},
		{"", []string{"trace", "10.77.2.10:1", "10.77.1.10:2", "--count", "1", "--socket", alone}},
		{"", []string{"trace", "any", "any", "--live", "--size", "100", "--socket", alone}},
		{"", []string{"trace", "10.77.2.10:1", "10.77.1.10:2", "--size=-1", "--socket", alone}},
		{"", []string{"capture", "--count=-1", "--socket", alone}},
		{"", []string{"capture", "--flow", "tcp udp", "--socket", alone}},
		{"", []string{"capture", "--flow", "10.1.1.1 10.2.2.2 10.3.3.3", "--socket", alone}},
		{"", []string{"capture", "--flow", "10.1.1.1:1 icmp", "--socket", alone}},
		{"", []string{"capture", "--flow", "10.1.1.1 fd77::1", "--socket", alone}},
		{"", []string{"capture", "--last", "1s", "--for", "1s", "--socket", alone}},
		{"", []string{"capture", "-w", "new.pcapng", "--last", "1s", "--socket", "absent.sock"}},
		{"", []string{"doctor", "--socket", "absent.sock"}},
		{"", []string{"ping", "gray-1", "--count", "0", "--socket", alone}},
		{"", []string{"ping", "gray-1", "--socket", "absent.sock"}},
		{"", []string{"bundle", "-o", "site.hcl", "--socket", "absent.sock"}},
		{"", []string{"top", "--socket", alone}},
		{"", []string{"top", "--once", "--socket", "absent.sock"}},
		{"", []string{"ha", "status", "--socket", alone}},
		{"", []string{"ha", "drain", "--socket", alone}},
		{"", []string{"ha", "drain", "--socket", refuses}},
		{"", []string{"ha", "failover", "--socket", refuses}},
		{"", []string{"ha", "test", "--socket", refuses}},
	}
	var list strings.Builder
	hide := strings.NewReplacer(alone, "alone.sock", refuses, "pair.sock")
	enter := func(stdin string, args []string, stderr string, code int) {
		if stdin != "" {
			stdin = "echo '" + stdin + "' | "
		}
		fmt.Fprintf(&list, "$ "+stdin+"%s\n%s(exit code %d)\n\n", hide.Replace(strings.Join(append([]string{"gw"}, args...), " ")), hide.Replace(stderr), code)
	}
	aside(t, func() {
		if out, err := exec.Command("sh", "-c", "ip link set lo up; ip route add 10.77.2.0/24 dev lo metric 12").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for _, m := range mistakes {
			_, stderr, code := gwWith(m.stdin, m.args...)
			if code == exitOK {
				t.Errorf("gw %v is no mistake", m.args)
			}
			enter(m.stdin, m.args, stderr, code)
		}
	})
	// What no command line brings about by itself: errors of a machine with several
	// gateways or none, of a gateway that does not answer, and of a full disk.
	say := func(what string, err error) {
		var b strings.Builder
		code := report(&b, err)
		fmt.Fprintf(&list, "# %s\n%s(exit code %d)\n\n", what, hide.Replace(b.String()), code)
	}
	_, several := socketFlags{}.resolveIn("here")
	_, nobody := socketFlags{}.resolveIn("absent")
	_, unreadable := socketFlags{}.resolveIn("site.hcl")
	say("several gateways run", several)
	say("none runs", nobody)
	say("no directory of sockets", unreadable)
	say("the gateway does not answer", askError(fmt.Errorf("ask the gateway at red-1.sock: %w", context.DeadlineExceeded)))
	say("the gateway ends meanwhile", askError(fmt.Errorf("ask the gateway at red-1.sock: %w", io.EOF)))
	say("the gateway is of another version", askError(fmt.Errorf("read the answer of the gateway at red-1.sock: %w", json.Unmarshal([]byte("<"), new(int)))))
	say("gw down while a gateway runs", downError(fmt.Errorf("%w: process 7 (gw) has gw0 open", hostnet.ErrRunning)))
	say("gw down without privilege", downError(fmt.Errorf("delete the hold: %w", unix.EPERM)))
	say("the gateway stops while it runs", stopped(errors.New("link: open udp port 51820")))
	for _, args := range [][]string{{"version", "--json"}, {"genkey"}} {
		var b strings.Builder
		code := run(args, strings.NewReader(""), failing{}, &b)
		enter("", args, b.String(), code)
	}
	t.Chdir(home)
	checkGolden(t, "errors.txt", list.String())
	everyErrorIsIn(t, list.String())
}

// unlisted are the errors that no test brings about, and why.
var unlisted = map[string]string{
	"the output has said why":                              "is never shown",
	"write what is wrong with the configuration: %w":       "stderr is broken",
	"write %s: %w":                                         "the disk is full",
	"rewrite %s: %w; see the space on its disk":            "the disk is full",
	"rewrite %s: %w; see the permissions of its directory": "the directory changes meanwhile",
	"rewrite: %w; or run gw fmt as its owner":              "TestFilesOfCommands",
	"the configuration has mistakes; see gw validate":      "is in a file of the bundle",
	"format %s: %w":                                        "what hcl can't lay out it can't parse either",
	"read the private key: %w":                             "stdin is broken",
	"%w; ask as root":                                      "root may ask, and tests are root",
	"write the bundle %s: %w; see the space on its disk":   "the disk is full",
	"a capture is nothing for a terminal: name a file with -w, or pipe it: gw capture | tcpdump -nr -": "needs a terminal",
	"write capture: %w": "the disk is full",
	"write capture: %w; choose another file with -w":                 "needs a gateway that captures",
	"read the terminal's settings: %w":                               "needs a terminal",
	"set the terminal up for keys: %w":                               "needs a terminal",
	"read a key: %w":                                                 "needs a terminal",
	"read the capture: %w":                                           "the gateway dies meanwhile",
	"read the capture: a block of %d bytes":                          "the gateway sends what no gateway sends",
	"read the configuration again: %w":                               "the file goes between two reads",
	"find the configuration: %w":                                     "the directory that this process runs in is gone",
	"%w: it may still come about; see the gateway's log, or gw plan": "needs an interrupt",
	"%w: not done within %v, and may still happen; see gw ha status": "takes 25 s",
	"%w: it may still happen; see gw ha status":                      "needs an interrupt",
}

// everyErrorIsIn looks for each error of this package's source in the list.
func everyErrorIsIn(t *testing.T, list string) {
	t.Helper()
	formats, err := messages.Formats(".", 0, makesError)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range formats {
		seen[f.Text] = true
		for _, piece := range f.Pieces() {
			if !strings.Contains(list, piece) && unlisted[f.Text] == "" {
				t.Errorf("%s: %q is not in testdata/errors.txt: make the mistake in TestErrors, or say in unlisted why no test can", f.Pos, f.Text)
				break
			}
		}
	}
	for format := range unlisted {
		if !seen[format] {
			t.Errorf("unlisted: there is no error %q", format)
		}
	}
}

// makesError tells whether a function makes an error of its first argument.
func makesError(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "usagef"
	case *ast.SelectorExpr:
		p, ok := f.X.(*ast.Ident)
		return ok && (p.Name == "fmt" && f.Sel.Name == "Errorf" || p.Name == "errors" && f.Sel.Name == "New")
	}
	return false
}
