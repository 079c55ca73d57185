package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUpErrors brings about what ends `gw up` before it carries anything, and holds what
// is said of it against a golden file. Each happens in a network namespace that is the
// thread's own. What ends it later is brought about in tests/e2e (TestUpFails).
func TestUpErrors(t *testing.T) {
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(starter(t))
	if err := os.Remove("gray-1.key"); err != nil {
		t.Fatal(err)
	}
	site, err := os.ReadFile("site.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("full/flows.log", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"busy", "epoch"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, "file", "not a directory")
	writeFile(t, "epoch/epoch", "soon\n")
	lock, err := os.OpenFile("busy/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "busy.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := strings.NewReplacer(`node "red-1" {`, "node \"red-2\" {\n    public_key = \"jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc=\"\n"+
		"    address = \"10.77.1.2\"\n    sibling_endpoint = \"192.168.1.2:51820\"\n  }\n  pair {\n    vip = \"192.168.1.10/24\"\n  }\n  node \"red-1\" {\n    sibling_endpoint = \"192.168.1.1:51820\"")

	const quiet = "log { level = \"error\" }"
	var list strings.Builder
	for _, m := range []struct {
		what, host, local string
		with              func(t *testing.T) io.Closer // in the namespace
		pair              bool
	}{
		{"the audit log's directory is missing", "", `audit { to = "absent/audit.log" }`, nil, false},
		{"the state directory is a file", "", `state_dir = "file"`, nil, false},
		{"the state directory can't be written", "", `state_dir = "/proc/self"`, nil, false},
		{"the state directory is another process's", "", `state_dir = "busy"`, nil, false},
		{"the socket's path is too long", "", `socket = "` + strings.Repeat("x", 108) + `"`, nil, false},
		{"the socket's directory is a file", "", `socket = "file/gw.sock"`, nil, false},
		{"the socket's place is taken", "", `socket = "file"`, nil, false},
		{"the socket is another gateway's", "", `socket = "busy.sock"`, nil, false},
		{"the socket can't be made", "", `socket = "/proc/gw.sock"`, nil, false},
		{"the status page's address is taken", "", `status { listen = "127.0.0.1:9770" }`, takenPort, false},
		{"the device's name is taken", "ip link add gw0 type veth peer name far", "", nil, false},
		{"the device is another process's", "", "", takenDevice, false},
		{"a route is somebody else's", "ip link set lo up; ip route add 10.77.2.0/24 dev lo metric 10", "", nil, false},
		{"the flow records can't be read", "", `state_dir = "full"`, nil, false},
		{"the LAN's interface is missing", "", `lan = "eth9"`, nil, true},
		{"the LAN's interface is no Ethernet", "", `lan = "lo"`, nil, true},
		{"the epoch is no number", "ip link add eth9 type veth peer name far; ip link set eth9 up", "lan = \"eth9\"\n  state_dir = \"epoch\"", nil, true},
	} {
		text := string(site)
		if m.pair {
			text = pair.Replace(text)
		}
		local := m.local
		for name, fallback := range map[string]string{"state_dir": "state", "socket": "gw.sock"} {
			if !strings.Contains(local, name+" ") {
				local += fmt.Sprintf("\n  %s = %q", name, fallback)
			}
		}
		writeFile(t, "up.hcl", text+"\nlocal {\n  private_key_file = \"red-1.key\"\n  "+quiet+"\n  "+local+"\n}\n")
		stderr, code := "", 0
		aside(t, func() {
			if m.host != "" {
				if out, err := exec.Command("sh", "-c", m.host).CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", m.what, err, out)
					return
				}
			}
			if m.with != nil {
				defer m.with(t).Close()
			}
			// Should it come up after all, it is stopped.
			defer time.AfterFunc(20*time.Second, func() { _ = unix.Kill(os.Getpid(), unix.SIGTERM) }).Stop()
			_, stderr, code = gw("up", "-c", "up.hcl")
		})
		if code == exitOK {
			t.Errorf("%s: gw up succeeds", m.what)
		}
		fmt.Fprintf(&list, "# %s\n%s(exit code %d)\n\n", m.what, hideNumbers.ReplaceAllString(stderr, "process N"), code)
	}
	t.Chdir(home)
	checkGolden(t, "errors-up.txt", list.String())
}

func takenPort(t *testing.T) io.Closer {
	l, err := net.Listen("tcp", "127.0.0.1:9770")
	if err != nil {
		t.Error(err)
	}
	return l
}

func takenDevice(t *testing.T) io.Closer {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return f
	}
	req, err := unix.NewIfreq("gw0")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req)
	}
	if err != nil {
		t.Error(err)
	}
	return f
}

// hideNumbers takes out what differs from run to run.
var hideNumbers = regexp.MustCompile(`process \d+( \([^)]*\))?( or process \d+( \([^)]*\))?)*`)

// aside runs do on a thread with a network namespace of its own, which ends with it.
func aside(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace (root is needed): %v", err)
	}
}
