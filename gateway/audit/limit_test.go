package audit

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// events are the kinds of the file's lines and how many there are of each, and the sum of lost
// lines.
func events(t *testing.T, path string) (kinds map[string]int, lost int) {
	t.Helper()
	kinds = map[string]int{}
	for _, l := range lines(t, path) {
		kinds[l["event"].(string)]++
		if n, ok := l["lines"].(float64); ok {
			lost += int(n)
		}
	}
	return kinds, lost
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestLimit: a peer that opens connections without end fills the file up to its limit and no
// further. The lines that are there stay, denials and changes of roles still have room, each lost
// line is counted, and a file that was moved away goes on with how many are missing.
func TestLimit(t *testing.T) {
	const limit = 64 << 10
	l, path, run := newLog(t, limit)
	f := &Flow{Proto: "tcp", Source: netip.MustParseAddrPort("10.77.2.10:40000"), Rule: "replication"}
	run("flow_open", f, 10_000)
	s := l.Stats()
	if got := size(t, path); got > limit || got < limit/2 || !s.Full || s.Size != got || s.Limit != limit || s.Written+s.Lost != 10_000 {
		t.Fatalf("after a flood of flows: %d bytes, %+v", got, s)
	}
	flooded := s.Written
	l.AddDenial(&Denial{SourceSite: "gray", Packets: 7})
	run("claim received", nil, 1)
	kinds, lost := events(t, path)
	if kinds["flow_open"] != int(flooded) || kinds["full"] != 1 || kinds["denied"] != 1 || kinds["claim received"] != 1 || lost != int(s.Lost) {
		t.Errorf("after a denial and a claim: %v, %d lost", kinds, lost)
	}
	run("claim received", nil, 10_000)
	if got := size(t, path); got > limit {
		t.Errorf("%d bytes after a flood of other lines", got)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	missing := int(l.Stats().Lost) - lost
	l.Reopen()
	run("flow_open", f, 2)
	kinds, lost = events(t, path)
	if s := l.Stats(); kinds["flow_open"] != 2 || lost > missing || lost == 0 || s.Full {
		t.Errorf("in the new file: %v, %d lost, %+v", kinds, lost, s)
	}
}

// TestLimitAfterTruncation: a full file that was truncated in place is written again.
func TestLimitAfterTruncation(t *testing.T) {
	l, path, run := newLog(t, 16<<10)
	run("flow_open", &Flow{}, 1000)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	l.put(Event{Time: time.Now().Add(2 * recheck), Kind: "flow_open", Flow: &Flow{}})
	l.flush()
	if kinds, lost := events(t, path); kinds["flow_open"] != 1 || lost == 0 || l.Stats().Full {
		t.Errorf("%v, %d lost, %+v", kinds, lost, l.Stats())
	}
}

// TestLimitCountsWhatIsThere: a restart gives the file no second limit.
func TestLimitCountsWhatIsThere(t *testing.T) {
	const limit = 16 << 10
	l, path, run := newLog(t, limit)
	run("flow_open", &Flow{}, 1000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{To: path, Limit: limit, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		l.put(Event{Time: time.Now(), Kind: "flow_open", Flow: &Flow{}})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Written != 0 || s.Lost != 100 || size(t, path) > limit {
		t.Errorf("%+v, %d bytes", s, size(t, path))
	}
}

// TestCloseWritesWhatWaits: lines that the last tasks of the gateway add are not lost.
func TestCloseWritesWhatWaits(t *testing.T) {
	l, path, run := newLog(t, 0)
	run("reload", nil, 1)
	l.AddDenial(&Denial{SourceSite: "gray", Packets: 7})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := events(t, path); kinds["denied"] != 1 {
		t.Errorf("%v", kinds)
	}
}

// TestOpenRefuses what is no file of this process's own, with what to do.
func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{To: path, Logger: hclog.NewNullLogger()})
	if err == nil || !strings.Contains(err.Error(), "name /etc/passwd itself") {
		t.Errorf("a symbolic link: %v", err)
	}
}
