package hostnet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlaceOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		env   map[string]string
		want  place
	}{
		{"host", nil, nil, place{}},
		{"docker", map[string]string{".dockerenv": ""}, nil, place{container: "docker"}},
		{"podman", map[string]string{"run/.containerenv": "engine=podman"}, nil, place{container: "podman"}},
		{"kubernetes", map[string]string{".dockerenv": ""}, map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, place{container: "kubernetes"}},
		{"lxc", map[string]string{"run/systemd/container": "lxc\n"}, nil, place{container: "lxc"}},
		{"service", nil, map[string]string{"SYSTEMD_EXEC_PID": strconv.Itoa(os.Getpid())}, place{service: true}},
		{"child of a service", nil, map[string]string{"SYSTEMD_EXEC_PID": "1"}, place{}},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := placeOf(root, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestAdvice: what helps depends on where gw runs.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{findTUN(unix.EACCES, place{})[0].Mend, "chmod 0666 /dev/net/tun"},
		{findTUN(unix.EPERM, place{})[0].Mend, "DeviceAllow=/dev/net/tun rw"},
		{findTUN(unix.EPERM, place{})[0].What, "device cgroup"},
		{findTUN(unix.EPERM, place{container: docker})[0].Mend, "docker run --device /dev/net/tun"},
		{findTUN(unix.EPERM, place{container: podman})[0].Mend, "podman run --device /dev/net/tun"},
		{findTUN(unix.EPERM, place{container: kubernetes})[0].Mend, "device plugin"},
		{findTUN(unix.EPERM, place{container: lxc})[0].Mend, "c 10:200 rwm"},
		{findTUN(unix.EPERM, place{container: nspawn})[0].Mend, "systemd-nspawn --bind=/dev/net/tun"},
		{findTUN(unix.ENOENT, place{})[0].Mend, "modprobe tun"},
		{findTUN(unix.ENOENT, place{container: docker})[0].Mend, "docker run --device /dev/net/tun"},
		{findTUN(unix.ENODEV, place{container: docker})[0].Mend, "on the container's host: modprobe tun"},
		{place{}.addCapabilities([]string{"NET_ADMIN", "NET_RAW"}), "setcap cap_net_admin,cap_net_raw=ep "},
		{place{service: true}.addCapabilities([]string{"NET_RAW"}), "AmbientCapabilities=CAP_NET_RAW"},
		{place{container: docker}.addCapabilities([]string{"NET_ADMIN", "NET_RAW"}), "docker run --cap-add=NET_ADMIN --cap-add=NET_RAW"},
		{place{container: kubernetes}.addCapabilities([]string{"NET_ADMIN"}), "capabilities.add: [NET_ADMIN]"},
		{place{frozen: true, service: true}.setSysctl("2", "net/ipv4/conf/lan0/rp_filter"), "sysctl -w net.ipv4.conf.lan0.rp_filter=2"},
		{place{frozen: true, container: docker}.setSysctl("2", "net/ipv4/conf/lan0/rp_filter"), "docker run --sysctl net.ipv4.conf.all.rp_filter=2"},
		{place{frozen: true, container: podman}.setSysctl("1", "net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/gw0/forwarding"), "podman run --sysctl net.ipv4.ip_forward=1"},
		{place{frozen: true, container: docker}.setSysctl("1", forceForwarding6("eth0")), "--sysctl net.ipv6.conf.all.forwarding=1"},
		{place{frozen: true, container: kubernetes}.setSysctl("1", looseSysctl), "sysctls: net.netfilter.nf_conntrack_tcp_loose=1"},
		{place{container: docker}.setSysctl("1", "net/ipv4/ip_forward"), "sysctl -w net.ipv4.ip_forward=1"},
	} {
		if !strings.HasSuffix(c.got, c.want) && !strings.Contains(c.got, c.want) {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestFrozen: a container's /proc/sys is mounted read-only.
func TestFrozen(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "proc/sys")
	if err := os.MkdirAll(filepath.Join(dir, "net/ipv4"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatalf("mount (root is needed): %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(dir, "net/ipv4/ip_forward")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	if placeOf(root, none).frozen {
		t.Error("frozen before it is read-only")
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if !placeOf(root, none).frozen {
		t.Error("read-only, and not frozen")
	}
}
