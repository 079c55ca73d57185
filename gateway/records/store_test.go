package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// table is an owner of records.
type table struct {
	mu sync.Mutex
	m  map[string]string
}

func (o *table) snapshot(yield func(key, value []byte) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, v := range o.m {
		if !yield([]byte(k), []byte(v)) {
			return
		}
	}
}

func (o *table) put(s *Store, k, v string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[k] = v
	s.Put([]byte(k), []byte(v))
}

func (o *table) delete(s *Store, k string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, k)
	s.Delete([]byte(k))
}

// start runs s; every write is told on written. The function that it returns
// ends the run and closes s.
func start(t *testing.T, s *Store) (written chan Stats, stop func()) {
	written = make(chan Stats)
	ctx, cancel := context.WithCancel(t.Context())
	s.afterWrite = func() {
		select {
		case written <- s.Stats():
		case <-ctx.Done():
		}
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return written, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func load(t *testing.T, dir string) map[string]string {
	t.Helper()
	s, lines := openStore(t, dir, nil)
	defer s.Close()
	rs, err := s.Load()
	if err != nil || lines.Len() > 0 {
		t.Fatal(err, lines)
	}
	got := map[string]string{}
	for _, r := range rs {
		got[string(r.Key)] = string(r.Value)
	}
	return got
}

func TestStoreRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	o := &table{m: map[string]string{"old": "1", "gone": "2"}}
	s, _ := openStore(t, dir, o.snapshot)
	written, stop := start(t, s)
	if st := <-written; st.Records != 2 || st.Rewrites != 1 {
		t.Errorf("after the start: %+v", st)
	}
	o.put(s, "new", "3")
	o.put(s, "old", "4")
	o.delete(s, "gone")
	for st := range written {
		if st.Records == 2 && st.Bytes > fileHeader+5*entryHeader {
			break
		}
	}
	o.put(s, "last", "5") // written when Run ends
	stop()
	if diff := cmp.Diff(o.m, load(t, dir)); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{fileName, "lock"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

func TestStoreWritesAtMostEvery20ms(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := &table{m: map[string]string{}}
		s, _ := openStore(t, dir, o.snapshot)
		written, stop := start(t, s)
		defer stop()
		<-written
		last := time.Now()
		for i := range 20 {
			o.put(s, fmt.Sprint(i), "x")
			<-written
			if gap := time.Since(last); gap != batchEvery {
				t.Errorf("batch %d after %v", i, gap)
			}
			last = time.Now()
		}
	})
}

func TestQueueOverflowIsMendedByRewrite(t *testing.T) {
	dir := t.TempDir()
	o := &table{m: map[string]string{}}
	s, _ := openStore(t, dir, o.snapshot)
	written, stop := start(t, s)
	<-written
	value := strings.Repeat("v", MaxValue)
	for i := range 2 * maxPending / MaxValue {
		o.put(s, fmt.Sprint(i), value) // meanwhile the writer waits in its hook
	}
	o.delete(s, "7")
	for st := range written {
		if st.Overflows > 0 && st.Rewrites > 1 {
			break
		}
	}
	stop()
	if diff := cmp.Diff(o.m, load(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestGarbageIsRewritten(t *testing.T) {
	dir := t.TempDir()
	o := &table{m: map[string]string{}}
	s, _ := openStore(t, dir, o.snapshot)
	written, stop := start(t, s)
	st := <-written
	for round := 0; st.Rewrites < 3; round++ {
		if round > 1000 {
			t.Fatalf("no rewrite: %+v", st)
		}
		for i := range 1000 {
			o.put(s, fmt.Sprint(i%500), fmt.Sprint(round, strings.Repeat("x", 200)))
		}
		st = <-written
		if st.Bytes > 3*rewriteAbove {
			t.Fatalf("%+v", st)
		}
	}
	stop()
	if diff := cmp.Diff(o.m, load(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := &table{m: map[string]string{}}
	log, lines := logTo(t)
	s, err := Open(Config{Dir: dir, MaxBytes: 4000, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s.SetSnapshot(o.snapshot)
	s.w.interval = 0
	written, stop := start(t, s)
	<-written
	for i := range 100 {
		o.put(s, fmt.Sprint(i), strings.Repeat("x", 88)) // 100 bytes an entry
		if st := <-written; st.Bytes > 4000 {
			t.Fatalf("%+v", st)
		}
	}
	if st := s.Stats(); st.Records != 39 && st.Records != 40 || st.Refused == 0 {
		t.Errorf("%+v", st)
	}
	for i := range 50 { // makes room, and a rewrite to use it
		o.delete(s, fmt.Sprint(i))
		if st := <-written; st.Bytes > 6000 {
			t.Fatalf("%+v", st)
		}
	}
	stop()
	if n := len(load(t, dir)); n < 25 || n > 40 {
		t.Errorf("%d of the 50 records that are left", n)
	}
	if n := strings.Count(lines.String(), "is full"); n < 1 || n > 2 {
		t.Errorf("logged as full %d times", n)
	}
}

func TestOverlongRecordsAreRefused(t *testing.T) {
	s, _ := openStore(t, t.TempDir(), nil)
	defer s.Close()
	s.Put(nil, []byte("x"))
	s.Put(make([]byte, MaxKey+1), nil)
	s.Put([]byte("k"), make([]byte, MaxValue+1))
	if st := s.Stats(); st.Refused != 3 || s.queued() != 0 {
		t.Errorf("%+v", st)
	}
}

func TestFailingDiskIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	obstacle := filepath.Join(dir, fileName+".new", "x") // not an empty directory: can't be removed
	if err := os.MkdirAll(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	o := &table{m: map[string]string{"a": "1"}}
	synctest.Test(t, func(t *testing.T) {
		s, lines := openStore(t, dir, o.snapshot)
		written, stop := start(t, s)
		time.AfterFunc(5*time.Second, func() { // of the bubble's time
			o.put(s, "b", "2")
			if st := s.Stats(); st.WriteErrors != 3 { // at 0, 1 and 3 s
				t.Errorf("%+v", st)
			}
			os.RemoveAll(filepath.Dir(obstacle))
		})
		<-written
		stop()
		if n := strings.Count(lines.String(), "can't write"); n != 1 {
			t.Errorf("complained %d times", n)
		}
		if !strings.Contains(lines.String(), "written again") {
			t.Error("the recovery is not logged")
		}
	})
	if diff := cmp.Diff(o.m, load(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir, nil)
	log, _ := logTo(t)
	_, err := Open(Config{Dir: dir, Logger: log})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d;", os.Getpid())) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = openStore(t, dir, nil)
	s.Close()
}

func (s *Store) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

func BenchmarkRewrite100k(b *testing.B) {
	m := map[string]string{}
	for i := range 100_000 {
		r := record(i)
		m[string(r.Key)] = string(r.Value)
	}
	s, _ := openStore(b, b.TempDir(), (&table{m: maps.Clone(m)}).snapshot)
	for b.Loop() {
		if err := s.rewrite(); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
}
