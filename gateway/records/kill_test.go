package records

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

const killDirEnv = "GW_RECORDS_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killKeys is how many keys the child writes over and over.
const killKeys = 5000

// killEntry is what the child puts at step n.
func killEntry(n int) (key, value string) {
	return fmt.Sprint(n % killKeys), fmt.Sprintf("%d %s", n, strings.Repeat("x", n%97))
}

// writeUntilKilled puts entries as fast as it can, and says after each write up
// to which step everything is in the file.
func writeUntilKilled(dir string) error {
	o := &table{m: map[string]string{}}
	s, err := Open(Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		return err
	}
	s.SetSnapshot(o.snapshot)
	rs, err := s.Load()
	if err != nil {
		return err
	}
	next := 0
	for _, r := range rs {
		o.m[string(r.Key)] = string(r.Value)
		next = max(next, killStep(string(r.Value))+1)
	}
	var put atomic.Int64
	put.Store(int64(next))
	var taken int64
	s.w.interval = 0
	s.beforeTake = func() { taken = put.Load() }
	s.afterWrite = func() { fmt.Println(taken, s.Stats().Rewrites) }
	go func() {
		for n := next; ; n++ {
			k, v := killEntry(n)
			o.put(s, k, v)
			put.Store(int64(n + 1))
		}
	}()
	return s.Run(context.Background())
}

func killStep(value string) int {
	n, _, _ := strings.Cut(value, " ")
	step, _ := strconv.Atoi(n)
	return step
}

func TestKilledWriterLosesNothingWritten(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 3))
	const rounds = 6
	allRewrites := 0
	for round := range rounds { // each goes on with what the one before has left
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		floor, rewrites, killAt, lines := 0, 0, 0, bufio.NewScanner(out)
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &floor, &rewrites); err != nil {
				t.Fatal(err)
			}
			if killAt == 0 {
				killAt = floor + rng.IntN(60_000)
			}
			if floor >= killAt {
				// At any moment of what it does next.
				time.AfterFunc(time.Duration(rng.IntN(20_000))*time.Microsecond, func() { cmd.Process.Kill() })
				killAt = math.MaxInt
			}
		}
		cmd.Wait()
		allRewrites += rewrites

		log, _ := logTo(t)
		s, err := Open(Config{Dir: dir, Logger: log}) // the lock has died with the child
		if err != nil {
			t.Fatal(err)
		}
		rs, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		got := map[string]int{}
		for _, r := range rs {
			step := killStep(string(r.Value))
			if k, v := killEntry(step); k != string(r.Key) || v != string(r.Value) {
				t.Fatalf("round %d: %q has value %q", round, r.Key, r.Value)
			}
			got[string(r.Key)] = step
		}
		for n := max(0, floor-killKeys); n < floor; n++ {
			k, _ := killEntry(n)
			if step, ok := got[k]; !ok || step < n {
				t.Fatalf("round %d: step %d was written, %d is there (%v)", round, n, step, ok)
			}
		}
		t.Logf("round %d: killed at step %d or later, after %d rewrites, %d records", round, floor, rewrites, len(got))
	}
	if allRewrites <= rounds {
		t.Error("no rewrite but the first of each round was among it")
	}
}
