package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// runDir holds one lock file for each process that has labs. A process
	// holds the lock on its file until it ends, however it ends, so a free lock
	// is a dead owner even if the pid is in use again.
	runDir = "/run/gwlab"
	prefix = "gwlab-"
)

// owned matches namespaces and scratch directories; the first group is the pid.
var owned = regexp.MustCompile(`^` + prefix + `(\d+)(-.*)?$`)

// register acquires this process's lock, once.
var register = sync.OnceValue(func() error {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return fmt.Errorf("make the lab's lock directory: %w", err)
	}
	return exclusively(func() error {
		f, err := lock(lockFile(os.Getpid()))
		if err != nil {
			return fmt.Errorf("lock this process's labs: %w", err)
		}
		// Held to the end of the process; the kernel lets go of it.
		registered = f
		return nil
	})
})

var registered *os.File

func lockFile(pid int) string { return filepath.Join(runDir, strconv.Itoa(pid)) }

func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// exclusively keeps one process from sweeping what another is registering.
func exclusively(fn func() error) error {
	f, err := os.OpenFile(filepath.Join(runDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return fn()
}

// Sweep removes the namespaces, processes and files of lab processes that have
// ended without doing so. Those of living processes stay.
func Sweep() error {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return fmt.Errorf("make the lab's lock directory: %w", err)
	}
	return exclusively(func() error {
		dead := map[int]bool{}
		var errs []error
		for _, dir := range []string{netnsDir, os.TempDir()} {
			entries, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
			for _, e := range entries {
				m := owned.FindStringSubmatch(e.Name())
				if m == nil {
					continue
				}
				pid, err := strconv.Atoi(m[1])
				if err != nil || !ownerDied(pid) {
					continue
				}
				dead[pid] = true
				if dir == netnsDir {
					errs = append(errs, killIn(filepath.Join(dir, e.Name())), netns.DeleteNamed(e.Name()))
				} else {
					errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
				}
			}
		}
		for pid := range dead {
			if err := os.Remove(lockFile(pid)); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("sweep labs of dead processes: %w", err)
		}
		return nil
	})
}

func ownerDied(pid int) bool {
	if pid == os.Getpid() {
		return false
	}
	f, err := os.OpenFile(lockFile(pid), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// killPatience is how long killed processes may take to be gone.
const killPatience = 5 * time.Second

// killIn ends the processes that are in the namespace at path and waits until
// they are gone. Processes that the lab starts die with it by PDEATHSIG; their own
// children may not.
func killIn(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	return Until(ctx, "the end of the processes in "+path, func() (bool, error) {
		pids, err := pidsIn(path)
		for _, pid := range pids {
			if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, e))
			}
		}
		return len(pids) == 0, err
	})
}

// pidsIn lists the processes whose main thread is in the namespace at path.
func pidsIn(path string) ([]int, error) {
	var want, have unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", path, err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range procs {
		// A process may end while it is looked at; then there is nothing to find.
		if unix.Stat(p+"/ns/net", &have) != nil || have.Ino != want.Ino || have.Dev != want.Dev {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimPrefix(p, "/proc/")); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// scratch is this process's directory for what outlives one lab: built programs,
// the template of the databases. Main and Sweep remove it.
func scratch() (string, error) {
	if err := register(); err != nil {
		return "", err
	}
	dir := filepath.Join(os.TempDir(), prefix+strconv.Itoa(os.Getpid()))
	// The databases run as another user, who must be able to pass through.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the lab's scratch directory: %w", err)
	}
	return dir, nil
}

// Main is what a TestMain calls: it sweeps, runs the tests, removes the
// process's scratch directory, and returns the exit code.
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }
func Main(m *testing.M) int {
	if err := Sweep(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Cleanup removes the process's scratch directory and lock, for programs that
// have no TestMain. Call it last: the process can't open labs afterwards.
func Cleanup() error {
	dir := filepath.Join(os.TempDir(), prefix+strconv.Itoa(os.Getpid()))
	err := os.RemoveAll(dir)
	if registered != nil {
		err = errors.Join(err, os.Remove(registered.Name()))
	}
	if err != nil {
		return fmt.Errorf("remove the lab's scratch directory: %w", err)
	}
	return nil
}
