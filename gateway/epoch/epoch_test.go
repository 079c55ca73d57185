package epoch

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// reopened returns the epoch that the next process finds.
func reopened(t *testing.T, dir string) uint64 {
	t.Helper()
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return e.Epoch()
}

func TestStoreAndOpen(t *testing.T) {
	dir := t.TempDir()
	if n := reopened(t, dir); n != 0 {
		t.Errorf("none: %d", n)
	}
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, want := range []uint64{1, 2, 1 << 60, ^uint64(0)} {
		if err := e.Store(want); err != nil {
			t.Fatal(err)
		}
		if n := reopened(t, dir); n != want {
			t.Errorf("%d, want %d", n, want)
		}
	}
	if err := e.Reset(); err != nil || reopened(t, dir) != 0 {
		t.Errorf("after the reset %d, %v", reopened(t, dir), err)
	}
}

// TestOldFormat: a file of an older version is read, and gets slots.
func TestOldFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(Path(dir), []byte("1795404435756\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Open(dir)
	if err != nil || e.Epoch() != 1795404435756 {
		t.Fatalf("%d, %v", e.Epoch(), err)
	}
	if err := e.Prepare(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if n := reopened(t, dir); n != 1795404435756 {
		t.Errorf("with slots it is %d", n)
	}
}

// TestTornWrite: whatever part of a slot was written when the machine died, the epoch
// before it or the new one is found.
func TestTornWrite(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, n := range []uint64{100, 200} {
		if err := e.Store(n); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Store(300); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(after) + 1 {
		torn := append(append([]byte{}, after[:cut]...), before[cut:]...)
		n, next, ok := parse(torn)
		if !ok || n != 200 && n != 300 {
			t.Fatalf("cut after %d bytes: %d, %v", cut, n, ok)
		}
		if kept, _ := parseSlot(torn[(1-next)*slotSize:]); kept != n {
			t.Fatalf("cut after %d bytes: the next write overwrites the epoch %d", cut, n)
		}
	}
}

func TestRubbish(t *testing.T) {
	for _, b := range []string{"", "rubbish", "-1", "gw epoch 1", strings.Repeat("x", slots*slotSize), "gw epoch 5 crc32c 00000000\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(Path(dir), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%.20q: %v", b, err)
		}
	}
}

// TestFullDisk: a file that has its slots is overwritten on a full disk. One that could
// not be made fails with what to do, and is made when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	// A mount namespace of this thread alone, which ends with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatalf("make mount namespace (root is needed): %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	full := func(file string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+file, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Prepare(); err != nil {
		t.Fatal(err)
	}
	full("filler")
	for _, n := range []uint64{7, 8, 9} {
		if err := e.Store(n); err != nil {
			t.Fatalf("store %d on a full disk: %v", n, err)
		}
		if got := reopened(t, dir); got != n {
			t.Errorf("%d, want %d", got, n)
		}
	}

	if err := os.Remove(Path(dir)); err != nil {
		t.Fatal(err)
	}
	full("filler2")
	late, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if err := late.Store(10); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("a new file on a full disk: %v", err)
	}
	if err := os.Remove(dir + "/filler"); err != nil {
		t.Fatal(err)
	}
	if err := late.Store(10); err != nil || reopened(t, dir) != 10 {
		t.Errorf("with room again: %d, %v", reopened(t, dir), err)
	}
}
