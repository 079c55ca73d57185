package ha

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// store is a map with the methods of Store.
type store map[string]string

func (s store) Value(b, key []byte) ([]byte, bool) {
	v, ok := s[string(key)]
	return append(b, v...), ok
}
func (s store) Apply(key, value []byte) { s[string(key)] = string(value) }
func (s store) Remove(key []byte)       { delete(s, string(key)) }

// twins are two Replicators with a network between them, in virtual time.
type twins struct {
	t      testing.TB
	rng    *rand.Rand
	now    time.Duration
	r      [2]*Replicator
	s      [2]store
	boot   uint64
	line   []carried // in order of arrival
	delay  time.Duration
	jitter time.Duration
	loss   float64
	dup    float64
	cut    bool
	bytes  int // of payloads
	packs  int
	flight int // the most that was in flight
}

type carried struct {
	at      time.Duration
	to      int
	payload []byte
}

func newTwins(t testing.TB, seed uint64) *twins {
	w := &twins{t: t, rng: rand.New(rand.NewPCG(seed, 7)), delay: 200 * time.Microsecond}
	w.restart(0)
	w.restart(1)
	return w
}

func (w *twins) restart(i int) {
	w.boot++
	w.s[i] = store{}
	w.r[i] = NewReplicator(w.now, ReplicatorConfig{Boot: w.boot, Store: w.s[i]})
}

func (w *twins) send(from int, out [][]byte) {
	for _, b := range out {
		if len(b) > MaxReplica {
			w.t.Fatalf("a payload of %d bytes", len(b))
		}
		w.bytes += len(b)
		w.packs++
		for copies := 1; copies > 0; copies-- {
			if w.rng.Float64() < w.dup {
				copies++
			}
			if w.cut || w.rng.Float64() < w.loss {
				continue
			}
			c := carried{at: w.now + w.delay, to: 1 - from, payload: bytes.Clone(b)}
			if w.jitter > 0 {
				c.at += time.Duration(w.rng.Int64N(int64(w.jitter)))
			}
			at := len(w.line)
			for at > 0 && w.line[at-1].at > c.at {
				at--
			}
			w.line = append(w.line, carried{})
			copy(w.line[at+1:], w.line[at:])
			w.line[at] = c
		}
	}
	w.flight = max(w.flight, len(w.r[from].src.flight))
}

// run lets time pass.
func (w *twins) run(d time.Duration) {
	for end := w.now + d; ; {
		next := min(end, w.r[0].Next(), w.r[1].Next())
		if len(w.line) > 0 {
			next = min(next, w.line[0].at)
		}
		w.now = max(next, w.now+time.Microsecond)
		if w.now >= end {
			w.now = end
			return
		}
		for len(w.line) > 0 && w.line[0].at <= w.now {
			c := w.line[0]
			w.line = w.line[1:]
			out, err := w.r[c.to].Handle(w.now, c.payload)
			if err != nil {
				w.t.Fatal(err)
			}
			w.send(c.to, out)
		}
		for i := range w.r {
			w.send(i, w.r[i].Tick(w.now))
		}
	}
}

func (w *twins) put(i int, key, value string) {
	w.s[i][key] = value
	w.send(i, w.r[i].Changed(w.now, []byte(key)))
}

func (w *twins) del(i int, key string) {
	delete(w.s[i], key)
	w.send(i, w.r[i].Changed(w.now, []byte(key)))
}

// same checks that both nodes hold the same and know it.
func (w *twins) same(what string) {
	w.t.Helper()
	if len(w.s[0]) != len(w.s[1]) {
		w.t.Errorf("%s: %d and %d records", what, len(w.s[0]), len(w.s[1]))
	}
	for k, v := range w.s[0] {
		if w.s[1][k] != v {
			w.t.Fatalf("%s: record %q is %q and %q", what, k, v, w.s[1][k])
		}
	}
	a, b := w.r[0].Status(w.now), w.r[1].Status(w.now)
	if a.Digest != b.Digest || !a.InSync || !b.InSync || a.Lag+b.Lag != 0 || !a.Equal || !b.Equal {
		w.t.Fatalf("%s: the nodes see it differently:\n%+v\n%+v", what, a, b)
	}
}

// TestReplicatorSeeds: whatever the network and the nodes do, both hold the same
// once it is quiet.
func TestReplicatorSeeds(t *testing.T) {
	for seed := range uint64(300) {
		w := newTwins(t, seed)
		rng := w.rng
		w.loss, w.dup = 0.3*rng.Float64()*float64(seed%2), 0.1*rng.Float64()
		w.jitter = time.Duration(rng.Int64N(int64(20 * time.Millisecond)))
		lead, epoch := 0, uint64(1)
		w.send(lead, w.r[lead].Lead(w.now, epoch))
		for range 150 {
			switch key := fmt.Sprint("key", rng.IntN(40)); rng.IntN(20) {
			case 0:
				w.run(time.Duration(rng.Int64N(int64(3 * time.Second))))
			case 1:
				w.cut = !w.cut
			case 2: // the standby restarts
				w.restart(1 - lead)
			case 3: // roles change, the deposed one hears of it a little later
				lead, epoch = 1-lead, epoch+1
				w.send(lead, w.r[lead].Lead(w.now, epoch))
				w.run(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
				w.send(1-lead, w.r[1-lead].Follow(w.now))
			case 4, 5, 6:
				w.del(lead, key)
			case 7, 8:
				w.run(time.Duration(rng.Int64N(int64(10 * time.Millisecond))))
			default:
				w.put(lead, key, fmt.Sprint(rng.Uint64()))
			}
		}
		w.cut = false
		w.run(3 * time.Second)
		w.loss, w.jitter = 0, 0
		w.run(5 * time.Second)
		w.same(fmt.Sprintf("seed %d", seed))
		if t.Failed() {
			return
		}
	}
}

func TestReplicatorJoin(t *testing.T) {
	w := newTwins(t, 1)
	const n = 20_000
	for i := range n {
		w.put(0, fmt.Sprint("key", i), "before")
	}
	w.send(0, w.r[0].Lead(w.now, 1))
	for i := range 2_000 { // while the snapshot is under way
		w.put(0, fmt.Sprint("key", i*3), "after")
		w.run(50 * time.Microsecond)
	}
	w.run(3 * time.Second)
	w.same("snapshot under load")
	if w.flight > window {
		t.Errorf("%d batches in flight", w.flight)
	}
	was := w.r[0].stats.Puts
	w.cut = true
	w.run(5 * time.Second)
	for i := range 5 {
		w.put(0, fmt.Sprint("key", i), "while cut")
	}
	w.cut = false
	w.run(3 * time.Second)
	w.same("after a cut")
	if again := w.r[0].stats.Puts - was; again > n/10 {
		t.Errorf("%d records were sent again for 5 that differ", again)
	}
}

func TestReplicatorRepairs(t *testing.T) {
	w := newTwins(t, 1)
	w.send(0, w.r[0].Lead(w.now, 1))
	for i := range 1000 {
		w.put(0, fmt.Sprint("key", i), "value")
	}
	w.run(2 * time.Second)
	w.same("at first")
	was := w.r[0].stats.Puts
	for _, k := range []string{"key1", "key2"} { // the standby loses two and makes one up
		w.s[1].Remove([]byte(k))
		w.r[1].idx.drop(bucketOf(k), k)
	}
	w.r[1].store("made up", []byte("x"))
	w.run(1100 * time.Millisecond)
	if w.r[1].stats.Removed == 0 {
		t.Error("the made-up record is still there")
	}
	w.run(2 * time.Second)
	w.same("repaired")
	if again := w.r[0].stats.Puts - was; again > 50 {
		t.Errorf("%d records were sent again for 3 buckets", again)
	}
}

func TestReplicatorOverflow(t *testing.T) {
	w := newTwins(t, 1)
	w.send(0, w.r[0].Lead(w.now, 1))
	w.run(100 * time.Millisecond)
	w.cut = true
	for i := range maxChanged + maxChanged/2 {
		w.put(0, fmt.Sprint("key", i), "value")
	}
	if w.r[0].stats.Overflows == 0 || w.r[0].InSync() {
		t.Error("the queue did not overflow")
	}
	w.cut = false
	w.run(5 * time.Second)
	w.same("after an overflow")
}

// What the standby has not acknowledged can be named, until it has.
func TestReplicatorUnacknowledged(t *testing.T) {
	w := newTwins(t, 1)
	w.send(0, w.r[0].Lead(w.now, 1))
	w.put(0, "old", "value")
	w.run(time.Second)
	if left := slices.Collect(w.r[0].Unacknowledged()); len(left) > 0 {
		t.Errorf("%q after a second", left)
	}
	w.cut = true
	w.put(0, "sent", "value")
	w.run(2 * flushEvery)
	w.put(0, "queued", "value")
	if left := slices.Collect(w.r[0].Unacknowledged()); !slices.Equal(left, []string{"sent", "queued"}) || w.r[0].Lag() != 2 {
		t.Errorf("%q, lag %d while cut off", left, w.r[0].Lag())
	}
	w.cut = false
	w.run(time.Second)
	if left := slices.Collect(w.r[0].Unacknowledged()); len(left) > 0 {
		t.Errorf("%q after a second", left)
	}
}

// TestReplicatorHandover: what the old active node had yet to say arrives, and
// doesn't undo what the new one has done since.
func TestReplicatorHandover(t *testing.T) {
	w := newTwins(t, 1)
	w.send(0, w.r[0].Lead(w.now, 1))
	w.put(0, "moved", "old")
	w.run(2 * time.Second)
	w.put(0, "warm", "up") // flushes at once, so that the next ones wait
	w.put(0, "last", "word")
	w.put(0, "moved", "older")
	w.send(1, w.r[1].Lead(w.now, 2))
	w.put(1, "moved", "newer")
	w.send(0, w.r[0].Follow(w.now))
	w.run(2 * time.Second)
	if w.s[1]["last"] != "word" || w.s[1]["moved"] != "newer" {
		t.Errorf("the new active node has %v", w.s[1])
	}
	w.same("after the handover")
}

// recordOf is a flow's record as gateway/flow makes them: 38 and 21 bytes.
func recordOf(conn, version uint32) (key, value string) {
	k, v := make([]byte, 38), make([]byte, 21)
	binary.BigEndian.PutUint32(k[34:], conn)
	binary.BigEndian.PutUint32(v[17:], version)
	return string(k), string(v)
}

// What a payload weighs more: in the tunnel by UDP and IPv4, and on the wire by
// WireGuard's header, tag and padding, UDP and IPv4.
const (
	inner = 28
	outer = inner + 32 + 8 + 28
)

// TestReplicatorCost holds the price of a short connection, in bytes on the sibling
// tunnel, both ways: a record at SYN, at open, at FIN, and its removal by one of
// the sweeps that the flow table makes every two seconds.
func TestReplicatorCost(t *testing.T) {
	const sweep = 2 * time.Second
	for _, perSecond := range []int{20, 100, 500, 1000, 2000} {
		w := newTwins(t, 1)
		w.send(0, w.r[0].Lead(w.now, 1))
		w.run(2 * time.Second)
		was, packs, start := w.bytes, w.packs, w.now
		opened, swept := 0, 0
		stages := []time.Duration{0, time.Millisecond, 4 * time.Millisecond}
		next := make([]int, len(stages)) // connection that reaches each stage next
		for ; w.now < start+3*sweep; w.run(time.Millisecond) {
			for s, after := range stages {
				for ; next[s] < 2*perSecond && w.now-start >= time.Duration(next[s])*time.Second/time.Duration(perSecond)+after; next[s]++ {
					k, v := recordOf(uint32(next[s]), uint32(s))
					w.put(0, k, v)
				}
			}
			if opened = next[len(stages)-1]; (w.now-start)%sweep == 0 {
				for ; swept < opened; swept++ {
					k, _ := recordOf(uint32(swept), 0)
					w.del(0, k)
				}
			}
		}
		w.run(time.Second)
		// The digests would be there without any connection.
		quiet, quietPacks := w.bytes, w.packs
		w.run(w.now - start)
		bytes, messages := 2*quiet-was-w.bytes, 2*quietPacks-packs-w.packs
		cost := (bytes + inner*messages) / opened
		t.Logf("%d connections/s: %d bytes each in the tunnel, %d on the wire", perSecond, cost, (bytes+outer*messages)/opened)
		if cost > 256 {
			t.Errorf("%d bytes for a short connection at %d a second", cost, perSecond)
		}
	}
}

// nothing is a Store that costs no memory.
type nothing struct{}

func (nothing) Value(b, _ []byte) ([]byte, bool) { return b, false }
func (nothing) Apply(_, _ []byte)                {}
func (nothing) Remove(_ []byte)                  {}

func TestReplicatorMemory(t *testing.T) {
	const n = 50_000
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	r := NewReplicator(0, ReplicatorConfig{Boot: 1, Store: nothing{}})
	for i := range uint32(n) {
		k, v := recordOf(i, 0)
		if err := r.do(&op{kind: opName, id: i + 1, key: []byte(k), value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / n
	runtime.KeepAlive(r)
	t.Logf("%d bytes a record", each)
	if each > 256 { // of 512, which leaves the same for the Store
		t.Errorf("the standby needs %d bytes a record", each)
	}
}
