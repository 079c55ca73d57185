//go:build deb

package deb

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// desk is the workstation of the guide: a directory, and an ssh and an scp that
// enter the lab's machines.
type desk struct{ dir string }

const sshShim = `#!/bin/sh
host=${1#root@}; shift
exec nsenter --target=$(cat "$DESK/pids/$host") --mount --pid --cgroup --ipc --uts --net --root \
	env -i -C /root PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive sh -c "$*"
`

const scpShim = `#!/bin/sh
set -e
for to; do :; done
host=${to%%:*} path=${to#*:}
while [ $# -gt 1 ]; do
	file=${path:-./}$(basename "$1") # as scp: a new file has the mode of the one that is sent
	"$DESK/bin/ssh" "$host" "umask 077; test -e $file || install -m $(stat -c %a "$1") /dev/null $file; cat >$file" <"$1"
	shift
done
`

func newDesk(t *testing.T, l *lab.Lab, machines map[string]*machine) *desk {
	t.Helper()
	d := &desk{dir: filepath.Join(l.Dir, "desk")}
	for _, sub := range []string{"bin", "pids"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.write(t, "bin/ssh", sshShim)
	d.write(t, "bin/scp", scpShim)
	for name, m := range machines {
		d.write(t, "pids/"+name, fmt.Sprint(m.init))
	}
	return d
}

func (d *desk) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// take replaces site red in the desk's site.hcl by a block of the guide, with the
// key that is there and the one that was printed last.
func (d *desk) take(t *testing.T, block, printed string) {
	t.Helper()
	path := filepath.Join(d.dir, "site/site.hcl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	red := regexp.MustCompile(`(?ms)^site "red" \{.*?^\}\n`)
	key := regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)
	block = strings.NewReplacer(
		"PUBLIC KEY OF red-1", key.FindString(red.FindString(string(b))), "PUBLIC KEY OF red-2", key.FindString(printed),
	).Replace(block)
	if err := os.WriteFile(path, []byte(red.ReplaceAllLiteralString(string(b), block)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGuide runs the operations guide, from the first line to the last,
// and looks after each step whether all connections live.
func TestGuide(t *testing.T) {
	blocks, err := Guide("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	l := lab.Start(t, lab.Config{Red: lab.SiteConfig{Gateways: 2, FloatingRouter: true}})
	share := filepath.Join(l.Dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, share, "1.0.0")
	build(t, share, "1.0.1")
	machines := map[string]*machine{
		"red-1":  start(t, l, l.Red.Gateways[0], "red-1", share),
		"red-2":  start(t, l, l.Red.Gateways[1], "red-2", share),
		"gray-1": start(t, l, l.Gray.GW(), "gray-1", share),
	}
	databases := map[string]*lab.Host{"red-db": l.Red.DB(), "gray-db": l.Gray.DB()}
	for _, h := range databases {
		serve(t, h)
	}
	d := newDesk(t, l, machines)
	bin, err := lab.Build("github.com/onewaylink/gw/cmd/gw")
	if err != nil {
		t.Fatal(err)
	}
	deskPath := filepath.Join(d.dir, "bin") + ":" + filepath.Dir(bin) + ":" + os.Getenv("PATH")
	give := func(version string) {
		b, err := os.ReadFile(filepath.Join(share, version+".deb"))
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, "gw.deb", string(b))
	}
	give("1.0.0")
	wg, err := os.ReadFile("../../configs/testdata/wg/dialled.conf")
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "wg0.conf", string(wg))

	runOn := func(host string, b Block) string {
		t.Helper()
		where := fmt.Sprintf("operations.md:%d, on %s", b.Line, host)
		if m := machines[host]; m != nil {
			out, err := m.try("cd /root; set -e\n" + b.Text)
			if err != nil {
				journal, _ := m.try("journalctl -b --no-pager -n 40 -u gw")
				t.Fatalf("%s: %v\n%s\n%s", where, err, out, journal)
			}
			return out
		}
		ns := l.WAN // of no account to the desk
		env, dir := os.Environ(), l.Dir
		if h := databases[host]; h != nil {
			ns = h.Namespace
		} else if host == "desk" {
			env, dir = append(env, "DESK="+d.dir, "PATH="+deskPath), d.dir
		} else {
			t.Fatalf("%s: the lab has no such host", where)
		}
		cmd := ns.Command(t.Context(), "bash", "-ec", b.Text)
		cmd.Env, cmd.Dir = env, dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", where, err, out)
		}
		return string(out)
	}

	var pools []*lab.Pool
	printed, section := "", ""
	for _, b := range blocks {
		if b.Section != section {
			section = b.Section
			t.Logf("— %s", section)
			switch section {
			case "2. Make a pair":
				pools = openPools(t, l)
			case "4. Upgrade":
				give("1.0.1")
			case "5. Change the configuration":
				for name, m := range machines {
					if out := m.run("gw status"); !strings.Contains(out, "version: 1.0.1") {
						t.Errorf("%s was not upgraded: %s", name, out)
					}
				}
			}
		}
		switch b.Lang {
		case "hcl":
			d.take(t, b.Text, printed)
		case "sh":
			for _, host := range b.On {
				printed = runOn(host, b)
				t.Logf("%s$ %s\n%s", host, b.Text, printed)
			}
		default:
			t.Fatalf("operations.md:%d: a block in %q", b.Line, b.Lang)
		}
		for _, p := range pools {
			if err := p.Check(patience); err != nil {
				t.Fatalf("operations.md:%d: a connection is dead: %v", b.Line, err)
			}
		}
	}
}
