package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHAReset: only a stopped node's epoch is cleared, and only one that other nodes
// would refuse, unless it is forced.
func TestHAReset(t *testing.T) {
	t.Chdir(starter(t))
	site, err := os.ReadFile("site.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("state", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "red.hcl", string(site)+"\nlocal {\n  private_key_file = \"red-1.key\"\n  state_dir = \"state\"\n}\n")
	run := func(code int, want string, args ...string) {
		t.Helper()
		out, stderr, got := gw(append([]string{"ha", "reset", "-c", "red.hcl"}, args...)...)
		if text := out + stderr; got != code || !strings.Contains(text, want) {
			t.Errorf("%v: exit code %d, want %d and %q in\n%s", args, got, code, want, text)
		}
	}
	near := time.Now().Add(time.Hour).UnixMilli()
	far := time.Now().Add(120*time.Hour + time.Minute).UnixMilli()

	writeFile(t, "state/epoch", fmt.Sprintln(near))
	run(1, "leave it, or use --force")
	writeFile(t, "state/epoch", fmt.Sprintln(far))
	lock, err := os.OpenFile("state/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	run(1, "stop that one")
	if b, err := os.ReadFile("state/epoch"); err != nil || !strings.Contains(string(b), fmt.Sprint(far)) {
		t.Errorf("under a running gateway the file became %q, %v", b, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	run(0, fmt.Sprintf("%d, 120h", far))
	run(1, "holds 0") // there is nothing left to clear
	writeFile(t, "state/epoch", fmt.Sprintln(near))
	run(0, "the next claim uses the clock", "--force")
	writeFile(t, "state/epoch", "rubbish")
	run(1, "remove it")
}
