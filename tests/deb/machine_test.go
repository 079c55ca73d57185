//go:build deb

package deb

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
	"github.com/onewaylink/gw/tests/lab"
)

// boot makes a machine out of this one's files: whatever is written goes to
// memory. It runs in namespaces of its own, which unshare has made, and ends as
// systemd. What systemd would start on this machine is not started; the units
// that would look for hardware are masked.
const boot = `
set -eu
root=$1 share=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/m"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/m"
cd "$root/m"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir dev/net dev/pts dev/shm run/share
for d in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0' 'net/tun 10 200'; do
	set -- $d
	mknod -m 666 dev/$1 c $2 $3
done
mount --bind "$share" run/share
rm -rf etc/gw var/lib/gw
for u in networking systemd-networkd systemd-networkd-wait-online systemd-udevd systemd-udev-trigger systemd-resolved systemd-timesyncd; do
	ln -sfn /dev/null etc/systemd/system/$u.service
done
# systemd mounts a unit's credentials in a namespace of its own, from where they come here.
mount --make-shared run
export container=lab
exec chroot . /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=no
`

// machine is a host with systemd.
type machine struct {
	t    *testing.T
	host *lab.Host
	name string
	init int // systemd, as the test sees it
}

// start boots a machine in the host's network. share is a directory that is
// /run/share there.
func start(t *testing.T, l *lab.Lab, host *lab.Host, name, share string) *machine {
	t.Helper()
	m := &machine{t: t, host: host, name: name}
	root := filepath.Join(l.Dir, name)
	group := filepath.Join(cgroup2(t), fmt.Sprintf("gwlab-%d-%s", os.Getpid(), name))
	for _, dir := range []string{root, group} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The group belongs to the lab, its namespace to the machine.
	script := fmt.Sprintf("echo $$ >%s/cgroup.procs && exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child -- sh -c '%s' sh %s %s",
		group, strings.ReplaceAll(boot, "'", `'\''`), root, share)
	p, err := host.Start(context.Background(), lab.Spec{Name: name + "-systemd", Args: []string{"sh", "-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		remove(t, group)
	})
	m.until("systemd is up", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID, p.PID))
		if err != nil {
			return false
		}
		if _, err := fmt.Sscan(string(b), &m.init); err != nil {
			return false
		}
		out, _ := m.try("systemctl is-system-running")
		return strings.Contains(out, "running") || strings.Contains(out, "degraded")
	})
	return m
}

// in is the machine for a subtest.
func (m *machine) in(t *testing.T) *machine {
	sub := *m
	sub.t = t
	return &sub
}

// cgroup2 is where the second version of control groups is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("no cgroup2 is mounted: systemd needs it; run: mount -t cgroup2 none DIR")
	return ""
}

// remove removes a control group and what systemd has made below it, once the
// kernel has buried all processes.
func remove(t *testing.T, group string) {
	removed := func() bool {
		var dirs []string
		_ = filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = os.Remove(dirs[i])
		}
		_, err := os.Stat(group)
		return os.IsNotExist(err)
	}
	if !await.Within(patience, removed) {
		t.Errorf("%s can't be removed", group)
	}
}

// patience bounds every wait for something that is bound to happen.
const patience = 60 * time.Second

func (m *machine) until(what string, cond func() bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, what, func() (bool, error) { return cond(), nil }); err != nil {
		journal, _ := m.try("journalctl -b --no-pager -n 60 -u gw")
		m.t.Fatalf("%s: %v\n%s", m.name, err, journal)
	}
}

// try runs a shell's script on the machine.
func (m *machine) try(script string) (string, error) {
	cmd := m.host.Command(context.Background(), "nsenter", fmt.Sprintf("--target=%d", m.init), "--mount", "--pid", "--cgroup", "--ipc", "--uts",
		"--root", "env", "-C", "/", "sh", "-c", script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "HOME=/root", "SYSTEMD_PAGER=", "LC_ALL=C"}
	err := cmd.Run()
	return out.String(), err
}

// run is try for what has to work.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		journal, _ := m.try("journalctl -b --no-pager -n 40 -u gw")
		m.t.Fatalf("%s: %s: %v\n%s\n%s", m.name, script, err, out, journal)
	}
	return strings.TrimSpace(out)
}

// fails is try for what must not work.
func (m *machine) fails(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err == nil {
		m.t.Fatalf("%s: %s exited with status 0, want an error:\n%s", m.name, script, out)
	}
	return out
}

func (m *machine) linkUp() {
	m.t.Helper()
	m.until("the link is up", func() bool {
		out, err := m.try("gw status --json")
		return err == nil && strings.Contains(out, `"state": "up"`)
	})
}
