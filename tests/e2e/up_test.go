package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// nobody is a user without any privilege.
const nobody = 65534

// TestUpFails: a start that fails reports what is missing, with the exit code that scripts go
// by, and leaves no device behind.
func TestUpFails(t *testing.T) {
	n := newNetwork(t, setup{})
	n.red.up()
	n.red.waitStatus("red runs", func(status.Status) bool { return true })
	site := func(nd *node) string { return filepath.Join(nd.dir, "site.hcl") }

	// Another node's files, on red's host.
	other := func(t *testing.T) *node {
		t.Helper()
		nd := newNode(t, n.Lab, n.Red.GW(), strings.ReplaceAll(filepath.Base(t.Name()), " ", "-"), n.red.bin, n.red.key)
		nd.configure(setup{rules: everything}, n.red.key, n.gray.key)
		return nd
	}
	fails := func(t *testing.T, nd *node, code int, says ...string) {
		t.Helper()
		got, out := nd.run(t, "up", "-c", site(nd))
		check(t, got, code, out, says...)
	}

	t.Run("no privilege", func(t *testing.T) {
		nd := other(t)
		err := filepath.WalkDir(nd.dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, nobody, nobody)
		})
		if err != nil {
			t.Fatal(err)
		}
		code, out := nd.runAs(t, lab.Spec{
			Args:       []string{nd.bin, "up", "-c", site(nd)},
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		})
		check(t, code, 1, out, "CAP_NET_ADMIN is missing", "setcap cap_net_admin=ep")
	})
	t.Run("tun busy", func(t *testing.T) {
		fails(t, other(t), 1, `"gw0"`, "another process has it open")
	})
	t.Run("port busy", func(t *testing.T) {
		c, err := n.Gray.GW().ListenPacket(t.Context(), "udp", ":51820")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fails(t, n.gray, 1, "udp port 51820", "is another gateway running?")
		if _, err := n.Gray.GW().Netlink().LinkByName("gw0"); err == nil {
			t.Error("the TUN device is still there")
		}
	})
	t.Run("mistakes", func(t *testing.T) {
		nd := other(t)
		nd.edit(`initiator = "red"`, `initiator = "blue"`)
		nd.edit("state_dir ", "state_dri ")
		fails(t, nd, 2, "site.hcl:", `"blue"`, `"state_dri"`, "2 mistakes")
	})
	t.Run("no key", func(t *testing.T) {
		nd := other(t)
		if err := os.Remove(filepath.Join(nd.dir, "private.key")); err != nil {
			t.Fatal(err)
		}
		fails(t, nd, 2, "private.key", "gw genkey")
	})
	t.Run("key open to others", func(t *testing.T) {
		nd := other(t)
		if err := os.Chmod(filepath.Join(nd.dir, "private.key"), 0o644); err != nil {
			t.Fatal(err)
		}
		fails(t, nd, 2, "chmod 600 "+filepath.Join(nd.dir, "private.key"))
	})
	t.Run("key of nobody", func(t *testing.T) {
		nd := other(t)
		if err := os.WriteFile(filepath.Join(nd.dir, "private.key"), []byte(lab.NewKey().String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, nd, 2, "belongs to no node")
	})
	t.Run("no gateway to ask", func(t *testing.T) {
		code, out := n.gray.run(t, "status", "--socket", n.gray.socket)
		check(t, code, 1, out, n.gray.socket)
	})

	// After all that the running gw still works, and gray starts.
	n.gray.up()
	n.red.waitState(status.LinkUp)
}

// check fails the test unless gw exited with a code and printed some texts.
func check(t *testing.T, got, want int, out string, says ...string) {
	t.Helper()
	if got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("the output lacks %q", s)
		}
	}
	if strings.Contains(out, "panic") {
		t.Error("gw crashed")
	}
	if t.Failed() {
		t.Logf("gw printed:\n%s", out)
	}
}

// TestInit: `gw up` runs with what `gw init` wrote, each gateway with its own key.
func TestInit(t *testing.T) {
	n := newNetwork(t, setup{})
	dir := filepath.Join(n.Dir, "init")
	code, out := n.red.run(t, "init", "--dir", dir, "--endpoint", n.Gray.GW().WAN4.String()+":51820")
	check(t, code, 0, out, "udp dport 51820", n.Gray.GW().WAN4.String())
	text, err := os.ReadFile(filepath.Join(dir, "site.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, nd := range []*node{n.red, n.gray} {
		key, err := os.ReadFile(filepath.Join(dir, nd.name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		// Only the paths of the test's own are added.
		local := "\nlocal {\n  state_dir = \"" + nd.dir + "/state\"\n  socket = \"" + nd.socket + "\"\n}\n"
		for name, b := range map[string][]byte{"site.hcl": append(text[:len(text):len(text)], local...), "private.key": key} {
			if err := os.WriteFile(filepath.Join(nd.dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.start()
	for _, w := range n.ways()[:2] { // init asks for IPv4 subnets only
		carriesBulk(t, w, 1<<20)
		pings(t, w)
		denied(t, w, "tcp", 5999)
	}
	stays := netip.AddrPortFrom(n.Gray.GW().WAN4, 51820).String()
	if l := n.red.link(); l.Endpoint != stays {
		t.Errorf("red dials %s, want %s", l.Endpoint, stays)
	}
	n.noneThrough(t)
}
