package conntrack

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, want Usage) {
		t.Helper()
		if got, err := readUsage(dir, filepath.Join(dir, "stat")); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}
	want("no connection tracking", Usage{})
	write("nf_conntrack_count", "65535\n")
	write("nf_conntrack_max", "65536\n")
	want("a kernel that does not count", Usage{Entries: 65535, Limit: 65536})
	write("stat", "entries  clashres found drop early_drop\n0000ffff 00000000 00000001 0000001f 00000002\n0000ffff 00000000 00000001 00000010 00000000\n")
	want("two processors", Usage{Entries: 65535, Limit: 65536, Drops: 0x2f})
	if u := (Usage{Entries: 65535, Limit: 65536}); u.Full() {
		t.Errorf("%+v is full", u)
	}
	if u := (Usage{Entries: 65536, Limit: 65536}); !u.Full() {
		t.Errorf("%+v is not full", u)
	}
	for _, bad := range []string{"entries found\n1 2\n", "entries drop\n1\n", "entries drop\n1 x\n"} {
		write("stat", bad)
		if u, err := readUsage(dir, filepath.Join(dir, "stat")); err == nil {
			t.Errorf("%q: %+v", bad, u)
		}
	}
}

// TestUsageOfTheKernel: the numbers of a namespace are its own, and those of the kernel's files.
func TestUsageOfTheKernel(t *testing.T) {
	r := newRouter(t)
	r.load(stock["invalid dropped"])
	before, err := ReadUsage()
	if err != nil || before.Limit == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	r.opened()
	after, err := ReadUsage()
	if err != nil || after.Entries <= before.Entries || after.Drops != 0 {
		t.Errorf("%+v, %v; before it %+v", after, err, before)
	}
}
