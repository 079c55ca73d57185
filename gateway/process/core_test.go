package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForbidCore runs in a process of its own: neither setting can be undone.
func TestForbidCore(t *testing.T) {
	if os.Getenv("GW_TEST_CORE") != "" {
		if err := ForbidCore(); err != nil {
			t.Fatal(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || dumpable != 0 {
			t.Fatalf("dumpable is %d, %v", dumpable, err)
		}
		limits, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(rest), " ") != "0 0 bytes" {
				t.Fatalf("the limit of core files is%s", rest)
			}
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestForbidCore$")
	cmd.Env = append(os.Environ(), "GW_TEST_CORE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
