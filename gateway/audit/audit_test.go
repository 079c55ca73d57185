package audit

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func lines(t *testing.T, path string) (out []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

// TestBackpressure: a full queue costs its callers nothing but the lines, and the log says
// how many are missing.
func TestBackpressure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := Open(Config{To: path, Node: "red-1", Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	f := &Flow{
		Proto: "tcp", Source: netip.MustParseAddrPort("10.77.2.10:40000"), Destination: netip.MustParseAddrPort("10.77.1.10:5432"),
		Rule: "replication", RulePos: "site.hcl:43", Reason: "closed", End: &End{BytesOut: 1, Carried: "raw"},
	}
	for range queue + 7 { // nobody reads
		l.Add("flow_end", f, nil)
	}
	if s := l.Stats(); s.Lost != 7 {
		t.Errorf("%d lines lost, want 7", s.Lost)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	l.Close()
	got := lines(t, path)
	if len(got) != queue+1 {
		t.Fatalf("%d lines, want %d and one that says what is missing", len(got), queue)
	}
	if got[0]["event"] != "lost" || got[0]["lines"] != 7.0 {
		t.Errorf("first line %v", got[0])
	}
	if e := got[1]; e["source"] != "10.77.2.10:40000" || e["rule_pos"] != "site.hcl:43" || e["reason"] != "closed" || e["node"] != "red-1" {
		t.Errorf("line %v", e)
	}
}

// TestReopen: after the file was moved away lines go to a new one, none to both.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := Open(Config{To: path, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for range 100 { // whichever Run hears of first
		l.Reopen()
		l.Add("reload", nil, map[string]string{"outcome": "done"})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	l.Close()
	if got := lines(t, path); len(got) != 100 || got[0]["event"] != "reload" {
		t.Errorf("new file: %v", got)
	}
	if got := lines(t, path+".1"); len(got) != 0 {
		t.Errorf("old file: %v", got)
	}
}

// newLog makes a log with a file, and run, which has it write so many events.
func newLog(t *testing.T, limit int64) (l *Log, path string, run func(kind string, f *Flow, events int)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.log")
	l, err := Open(Config{To: path, Limit: limit, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	return l, path, func(kind string, f *Flow, events int) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for events > 0 {
			for range min(events, queue) {
				l.Add(kind, f, nil)
				events--
			}
			if err := l.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDiskFull: each line that a full disk does not take is counted, the log says how many they
// were when it can be written again, and a line that is there in part spoils no other.
func TestDiskFull(t *testing.T) {
	l, path, run := newLog(t, 0)
	disk := l.file.f
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	l.file.f = full
	run("reload", nil, 3)
	run("reload", nil, 2)
	if s := l.Stats(); s != (Stats{Lost: 5}) {
		t.Errorf("on a full disk: %+v", s)
	}
	const part = `{"time":"20`
	if _, err := disk.WriteString(part); err != nil {
		t.Fatal(err)
	}
	l.file.f, l.file.torn = disk, true
	run("reload", nil, 2)
	if s := l.Stats(); s.Written != 2 || s.Lost != 5 {
		t.Errorf("with room again: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(string(b), part+"\n")
	if err := os.WriteFile(path, []byte(rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); !ok || len(got) != 3 || got[0]["event"] != "lost" || got[0]["lines"] != 5.0 || got[2]["event"] != "reload" {
		t.Errorf("%q", b)
	}
}

// TestAddAllocates nothing beyond what it is given, also when the queue is full.
func TestAddAllocates(t *testing.T) {
	l, err := Open(Config{To: Stdout, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	f := &Flow{}
	if n := testing.AllocsPerRun(queue+100, func() { l.Add("flow_open", f, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
