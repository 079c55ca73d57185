package process

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sizes are the configured limits that bound what a gateway holds in memory.
type Sizes struct {
	Flows, Relays int
	// In bytes: fragments that wait, in each direction; the last packets for `gw capture`; the
	// buffers of all trunks together.
	Fragments, Capture, Trunks int64
}

// What one unit of each limit takes, in bytes, as measured (docs/design.md, "The process's
// memory").
const (
	baseBytes  = 64 << 20 // the program, WireGuard's and netstack's buffers, queues, the page
	flowBytes  = 512      // a flow, its index entries and its record
	relayBytes = 32 << 10 // a relay without what is under way: two gVisor endpoints and timers
)

// Live returns the most bytes that a gateway with these limits holds at a time.
func (s Sizes) Live() int64 {
	return baseBytes + int64(s.Flows)*flowBytes + int64(s.Relays)*relayBytes +
		2*s.Fragments + // one reassembler in each direction
		2*s.Capture + // a reader copies what it reads
		s.Trunks
}

// Limit returns the memory limit for the Go runtime, in bytes: a quarter above Live, so that
// the garbage collector is not always at work when all limits are reached.
func (s Sizes) Limit() int64 { return s.Live() + s.Live()/4 }

// Where a memory limit comes from.
const (
	FromEnvironment = "GOMEMLIMIT"
	FromLimits      = "local.limits"
	FromGroup       = "control group"
	FromMachine     = "machine"
)

// MemoryLimit is the memory limit of the Go runtime and where it comes from.
type MemoryLimit struct {
	Bytes int64
	From  string // one of the From constants
	// Short is the number of bytes that the configured limits need beyond what the control group
	// or the machine allows; 0 if they fit or if GOMEMLIMIT decides.
	Short int64
}

// String returns the limit in MiB with its source.
func (m MemoryLimit) String() string { return fmt.Sprintf("%d MiB, from %s", m.Bytes>>20, m.From) }

// SetMemoryLimit sets the memory limit of the Go runtime to what the sizes need, or to what the
// control group (version 2) or the machine allows, if that is less. GOMEMLIMIT in the environment
// goes before all of them.
func SetMemoryLimit(s Sizes) MemoryLimit {
	if os.Getenv("GOMEMLIMIT") != "" {
		return MemoryLimit{Bytes: debug.SetMemoryLimit(-1), From: FromEnvironment}
	}
	m := chooseLimit(s.Limit(), groupMemory(os.DirFS("/")), machineMemory())
	debug.SetMemoryLimit(m.Bytes)
	return m
}

// chooseLimit takes what is wanted and what the control group and the machine have, in bytes.
func chooseLimit(want, group, machine int64) MemoryLimit {
	// The kernel also charges the group for sockets' buffers and the page cache. On a machine
	// there are other programs.
	group, machine = group/10*9, machine/4*3
	m := MemoryLimit{Bytes: want, From: FromLimits}
	if group < m.Bytes {
		m = MemoryLimit{Bytes: group, From: FromGroup}
	}
	if machine < m.Bytes {
		m = MemoryLimit{Bytes: machine, From: FromMachine}
	}
	m.Short = want - m.Bytes
	return m
}

// machineMemory returns the machine's memory in bytes, or math.MaxInt64 if the kernel does not
// say.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return math.MaxInt64
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit))
}

// groupMemory returns the lowest memory.high or memory.max of this process's control group and of
// those around it, in bytes; math.MaxInt64 if there is none. root is the file system.
func groupMemory(root fs.FS) int64 {
	lowest := int64(math.MaxInt64)
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return lowest
	}
	for line := range strings.Lines(string(b)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/") // cgroups(7): version 2
		if !ok {
			continue
		}
		const mounted = "sys/fs/cgroup"
		for dir := path.Join(mounted, name); strings.HasPrefix(dir, mounted); dir = path.Dir(dir) {
			for _, file := range []string{"memory.high", "memory.max"} {
				text, err := fs.ReadFile(root, path.Join(dir, file))
				if err != nil {
					continue // the root has none
				}
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // not "max"
					lowest = min(lowest, n)
				}
			}
		}
	}
	return lowest
}
