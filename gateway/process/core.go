package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ForbidCore keeps this process's memory, which holds private keys, out of core files and away
// from other processes of its user.
//
// The resource limit is for core files. The kernel ignores it for a pipe in core_pattern
// (core(5)), so the process also becomes undumpable (prctl(2), PR_SET_DUMPABLE); that forbids
// ptrace and /proc/PID/mem to all but root, too. A program that this one executes is dumpable
// again, but inherits the limit.
func ForbidCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set the limit of core files to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return nil
}
