package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// serviceUser is the number of the user "nobody", for the unit's user gw.
const serviceUser = 65534

// asService makes a node run as gw.service runs it: as a user that owns its state and nothing
// else, with two ambient capabilities, and with a copy of the key, whose file is root's.
func (n *node) asService() {
	n.t.Helper()
	key := filepath.Join(n.dir, "private.key")
	credentials := filepath.Join(n.dir, "credentials")
	text, err := os.ReadFile(key)
	if err != nil {
		n.t.Fatal(err)
	}
	bin, err := os.ReadFile(n.bin)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.Mkdir(credentials, 0o700); err != nil {
		n.t.Fatal(err)
	}
	// The user may not look into the directory of the binary.
	n.bin = filepath.Join(n.dir, "gw")
	if err := os.WriteFile(n.bin, bin, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(credentials, "gw_private.key"), text, 0o400); err != nil {
		n.t.Fatal(err)
	}
	err = filepath.WalkDir(n.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == key {
			return err
		}
		return os.Chown(path, serviceUser, serviceUser)
	})
	if err != nil {
		n.t.Fatal(err)
	}
	for dir := filepath.Dir(n.dir); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			n.t.Fatal(err)
		}
		if info.Mode().Perm()&0o011 != 0o011 {
			if err := os.Chmod(dir, info.Mode()|0o011); err != nil {
				n.t.Fatal(err)
			}
		}
	}
	// As udev makes it on any Debian machine: a container's is often root's alone.
	tun := filepath.Join(n.dir, "tun")
	if err := errors.Join(unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666)); err != nil {
		n.t.Fatal(err)
	}
	n.under = append(n.under, "unshare", "--mount", "sh", "-ec", `mount --bind "$1" /dev/net/tun; shift; exec "$@"`, "sh", tun)
	n.under = append(n.under, "setpriv", fmt.Sprintf("--reuid=%d", serviceUser), fmt.Sprintf("--regid=%d", serviceUser), "--clear-groups",
		"--inh-caps=-all,+net_admin,+net_raw", "--ambient-caps=-all,+net_admin,+net_raw", "--bounding-set=-all,+net_admin,+net_raw",
		"--no-new-privs", "env", "CREDENTIALS_DIRECTORY="+credentials)
}

// TestServiceUser: a gateway that is not root's carries both ways, after a kill too, and finds
// everything on the host that it checks as root.
func TestServiceUser(t *testing.T) {
	n := newNetwork(t, setup{})
	n.red.asService()
	n.start()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.red.proc.PID))
	if err != nil {
		t.Fatal(err)
	}
	const caps = "0000000000003000" // CAP_NET_ADMIN, CAP_NET_RAW
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "NoNewPrivs:\t1", "CapEff:\t" + caps, "CapBnd:\t" + caps} {
		if !strings.Contains(string(status), want+"\n") {
			t.Errorf("the process has no %q:\n%s", want, status)
		}
	}
	const idle = 40 << 20
	if s, err := n.red.status(); err != nil || s.Memory.Resident == 0 || s.Memory.Resident > idle {
		t.Errorf("an idle gateway holds %d MiB resident, want at most %d: %v", s.Memory.Resident>>20, idle>>20, err)
	} else {
		t.Logf("idle: %d MiB resident", s.Memory.Resident>>20)
	}
	for _, w := range n.ways() {
		carriesBulk(t, w, 1<<20)
	}
	if _, out := n.red.run(t, "doctor", "--socket", n.red.socket); strings.Contains(out, "could not be") || strings.Contains(out, "permitted") {
		t.Errorf("the service user cannot check the host:\n%s", out)
	}
	runs := n.startTransfers(t, 8<<20)
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	n.red.kill()
	n.red.up()
	n.finishTransfers(t, runs, patience)
}
