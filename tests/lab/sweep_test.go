package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary the process that TestSweep kills.
const childEnv = "GWLAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		fmt.Println(crash())
		os.Exit(1)
	}
	os.Exit(Main(m))
}

// crash opens a lab, starts a process in it that has a process of its own, prints
// their numbers, and waits to be killed.
func crash() error {
	l, err := Open(Config{Impaired: true})
	if err != nil {
		return err
	}
	p, err := l.Red.DB().Start(context.Background(), Spec{Args: []string{"sh", "-c", "setsid sleep 1000 & echo child $!; wait"}})
	if err != nil {
		return err
	}
	if err := p.Saw(context.Background(), "child "); err != nil {
		return err
	}
	fmt.Println(p.PID, strings.TrimPrefix(strings.TrimSpace(p.Log.String()), "child "))
	select {}
}

func TestSweep(t *testing.T) {
	mine := Start(t, Config{})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child printed %q: %v", line, err)
	}
	var child, grandchild int
	if _, err := fmt.Sscan(line, &child, &grandchild); err != nil {
		t.Fatalf("the child printed %q: %v", line, err)
	}
	left := func() []string { return leftBehind(t, cmd.Process.Pid) }
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if n := len(left()); n < 6 {
		t.Errorf("sweep damaged a living process's lab: %d parts remain, want 6 namespaces and a directory", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the killed child exited with status 0")
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if got := left(); len(got) != 0 {
		t.Errorf("sweep left %q", got)
	}
	for _, pid := range []int{child, grandchild} {
		if err := Until(ctxFor(t), fmt.Sprintf("the end of process %d", pid), func() (bool, error) { return ended(pid), nil }); err != nil {
			t.Error(err)
		}
	}
	if _, err := mine.WAN.Nstat(); err != nil {
		t.Errorf("sweep damaged this process's lab: %v", err)
	}
}

// leftBehind lists what there is of a process's labs.
func leftBehind(t *testing.T, pid int) (found []string) {
	t.Helper()
	for _, pattern := range []string{filepath.Join(netnsDir, prefix+"%d-*"), filepath.Join(os.TempDir(), prefix+"%d"), filepath.Join(runDir, "%d")} {
		m, err := filepath.Glob(fmt.Sprintf(pattern, pid))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, m...)
	}
	return found
}

// ended reports whether a process is gone, or a zombie that its parent has not waited for.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestCloseLeavesNothing closes a lab in which everything is still in use.
func TestCloseLeavesNothing(t *testing.T) {
	l, err := Open(Config{Impaired: true, Red: SiteConfig{Gateways: 2}, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Gray.GW().Start(context.Background(), Spec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.WAN.Capture(boxLink, CaptureConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(ctxFor(t)); err == nil {
		t.Error("the process exited with status 0, want it killed")
	}
	m, err := filepath.Glob(filepath.Join(netnsDir, l.id+"-*"))
	if err != nil || len(m) != 0 {
		t.Errorf("left namespaces %q, %v", m, err)
	}
	if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
		t.Errorf("the lab's directory: %v, want it gone", err)
	}
}
