package epoch

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestResetKeepsTheOwner: root resets the epoch of a service that runs as another user, which can
// then still open the file.
func TestResetKeepsTheOwner(t *testing.T) {
	dir := t.TempDir()
	const user = 65534
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Reset(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "epoch"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != user {
		t.Errorf("the file belongs to user %d, want %d", uid, user)
	}
}
