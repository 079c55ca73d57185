package status

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
)

// Memory is what the process takes from the machine.
type Memory struct {
	// Resident is the memory that the kernel holds for the process now, ResidentPeak the most that
	// it ever held, in bytes. Both are zero, and left out, when /proc can't be read.
	Resident     uint64 `json:"resident_bytes,omitzero"`
	ResidentPeak uint64 `json:"resident_peak_bytes,omitzero"`
	// Heap is what live and not yet collected Go objects take of it.
	Heap       uint64 `json:"heap_bytes"`
	Goroutines int    `json:"goroutines"`
}

// Process is how the process runs.
type Process struct {
	// Processors is how many the process uses now, which it adapts to its load. Usable is how many
	// it may use.
	Processors int `json:"processors"`
	Usable     int `json:"usable_processors"`
	// Freezes are how often the process stood still for a second or more, as in a paused virtual
	// machine.
	Freezes uint64 `json:"freezes_total"`
}

// usable is what the Go runtime found at the start: the affinity and the CPU quota of the process,
// or GOMAXPROCS.
var usable = runtime.GOMAXPROCS(0)

// ReadProcess measures this process, which has been frozen so many times.
func ReadProcess(freezes uint64) Process {
	return Process{Processors: runtime.GOMAXPROCS(0), Usable: usable, Freezes: freezes}
}

// ReadMemory measures this process.
func ReadMemory() Memory {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	m := Memory{Heap: heap[0].Value.Uint64(), Goroutines: runtime.NumGoroutine()}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		m.Resident = kilobytes(b, "VmRSS:")
		m.ResidentPeak = kilobytes(b, "VmHWM:")
	}
	return m
}

// kilobytes finds a line like "VmRSS:       1234 kB" (proc_pid_status(5)) and returns its value in
// bytes, zero when there is none.
func kilobytes(procStatus []byte, key string) uint64 {
	for line := range bytes.Lines(procStatus) {
		if value, ok := bytes.CutPrefix(line, []byte(key)); ok {
			n, err := strconv.ParseUint(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}
