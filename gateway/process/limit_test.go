package process

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

const mib = 1 << 20

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Sizes
		live int64
	}{
		{"nothing", Sizes{}, 64 * mib},
		{"flows", Sizes{Flows: 2048}, 65 * mib},
		{"relays", Sizes{Relays: 32}, 65 * mib},
		{"fragments of both directions", Sizes{Fragments: 4 * mib}, 72 * mib},
		{"a capture and its reader", Sizes{Capture: 4 * mib}, 72 * mib},
		{"trunks", Sizes{Trunks: 64 * mib}, 128 * mib},
		{"all", Sizes{Flows: 131072, Relays: 4096, Fragments: 4 * mib, Capture: 4 * mib, Trunks: 64 * mib}, (64 + 64 + 128 + 8 + 8 + 64) * mib},
	} {
		if got := tt.s.Live(); got != tt.live {
			t.Errorf("%s: %d MiB live, want %d", tt.name, got>>20, tt.live>>20)
		}
		if got, want := tt.s.Limit(), tt.live*5/4; got != want {
			t.Errorf("%s: limit %d, want %d", tt.name, got, want)
		}
	}
}

func TestChooseLimit(t *testing.T) {
	const none = math.MaxInt64
	for _, tt := range []struct {
		name                 string
		want, group, machine int64
		bytes, short         int64
		from                 string
	}{
		{"nothing else", 400 * mib, none, none, 400 * mib, 0, "local.limits"},
		{"a large group", 400 * mib, 1000 * mib, 8000 * mib, 400 * mib, 0, "local.limits"},
		{"a small group", 400 * mib, 300 * mib, 8000 * mib, 270 * mib, 130 * mib, "control group"},
		{"a small machine", 400 * mib, none, 400 * mib, 300 * mib, 100 * mib, "machine"},
		{"a small machine with a smaller group", 400 * mib, 200 * mib, 400 * mib, 180 * mib, 220 * mib, "control group"},
		{"a group larger than its machine", 400 * mib, 350 * mib, 400 * mib, 300 * mib, 100 * mib, "machine"},
	} {
		got := chooseLimit(tt.want, tt.group, tt.machine)
		if want := (MemoryLimit{Bytes: tt.bytes, From: tt.from, Short: tt.short}); got != want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
}

func TestGroupMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const unit = "sys/fs/cgroup/system.slice/gw.service/"
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		want int64
	}{
		{"no control groups", fstest.MapFS{}, math.MaxInt64},
		{"version 1", fstest.MapFS{"proc/self/cgroup": file("4:memory:/system.slice/gw.service\n")}, math.MaxInt64},
		{"no limit", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/gw.service\n"), unit + "memory.max": file("max\n")}, math.MaxInt64},
		{"max", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/gw.service\n"), unit + "memory.max": file("4096\n"), unit + "memory.high": file("max\n")}, 4096},
		{"high", fstest.MapFS{"proc/self/cgroup": file("1:name=systemd:/x\n0::/system.slice/gw.service\n"), unit + "memory.max": file("8192\n"), unit + "memory.high": file("4096\n")}, 4096},
		{"of the slice", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/gw.service\n"), unit + "memory.max": file("8192\n"), "sys/fs/cgroup/system.slice/memory.max": file("4096\n")}, 4096},
		{"of a container", fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("4096\n")}, 4096},
		{"outside the namespace", fstest.MapFS{"proc/self/cgroup": file("0::/../../x\n"), "memory.max": file("4096\n")}, math.MaxInt64},
	} {
		if got := groupMemory(tt.fs); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestSetMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	t.Setenv("GOMEMLIMIT", "")
	m := SetMemoryLimit(Sizes{})
	if got := debug.SetMemoryLimit(-1); got != m.Bytes || got > (Sizes{}).Limit() {
		t.Errorf("the runtime has %d, want %d", got, m.Bytes)
	}
	// As the runtime reads it at start.
	t.Setenv("GOMEMLIMIT", "123MiB")
	debug.SetMemoryLimit(123 * mib)
	if got, want := SetMemoryLimit(Sizes{Flows: 1 << 20}), (MemoryLimit{Bytes: 123 * mib, From: "GOMEMLIMIT"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := debug.SetMemoryLimit(-1); got != 123*mib {
		t.Errorf("the environment's limit became %d", got)
	}
}
