package bind

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestParseNudge(t *testing.T) {
	for _, c := range []struct {
		name string
		m    []byte
		ok   bool
	}{
		{"version 1", []byte{0xf7, 'g', 'w', 1, 0x78, 0x56, 0x34, 0x12}, true},
		{"version 2", []byte{0xf7, 'g', 'w', 2, 0x78, 0x56, 0x34, 0x12}, false},
		{"short", []byte{0xf7, 'g', 'w', 1, 0x78, 0x56, 0x34}, false},
		{"long", []byte{0xf7, 'g', 'w', 1, 0x78, 0x56, 0x34, 0x12, 0}, false},
		{"another magic", []byte{0xf7, 'g', 'v', 1, 0x78, 0x56, 0x34, 0x12}, false},
		{"empty", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			index, ok := parseNudge(c.m)
			if ok != c.ok || ok && index != 0x12345678 {
				t.Errorf("parseNudge = %#x, %v; want ok = %v", index, ok, c.ok)
			}
		})
	}
}

// FuzzNudge: what is accepted is exactly what would be written.
func FuzzNudge(f *testing.F) {
	f.Add(appendNudge(nil, 0x12345678))
	f.Add([]byte{0xf7, 'g', 'w', 2, 0, 0, 0, 0})
	f.Add([]byte{4, 0, 0, 0})
	f.Fuzz(func(t *testing.T, m []byte) {
		index, ok := parseNudge(m)
		if ok && !bytes.Equal(m, appendNudge(nil, index)) {
			t.Errorf("accepted %x, which is not how %#x is written", m, index)
		}
		if ok && !looksLikeNudge(m) {
			t.Errorf("accepted %x, which doesn't look like a nudge", m)
		}
	})
}

func TestOwnIndicesForgetsTheOldest(t *testing.T) {
	var o ownIndices
	has := func(index uint32) bool { _, ok := o.peer(index); return ok }
	if has(0) {
		t.Error("knows an index that was never told")
	}
	for i := range uint32(maxOwnIndices) {
		o.add(i, 0)
		o.add(i, 0) // a repetition takes no room
	}
	if !has(0) {
		t.Error("has forgotten too early")
	}
	o.add(maxOwnIndices, 0)
	if has(0) || !has(1) || !has(maxOwnIndices) {
		t.Error("should have forgotten the oldest, and only it")
	}
	if len(o.set) != maxOwnIndices {
		t.Errorf("holds %d indices, want %d", len(o.set), maxOwnIndices)
	}
}

func testSource(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 51820)
}

func TestNudgerLimits(t *testing.T) {
	n := newNudger()
	now := time.Unix(1000, 0)
	if !n.allow(testSource(0), 7, now) {
		t.Fatal("refused the first")
	}
	if n.allow(testSource(0), 7, now.Add(999*time.Millisecond)) {
		t.Error("allowed two about one session within a second")
	}
	if !n.allow(testSource(0), 8, now) || !n.allow(testSource(1), 7, now) {
		t.Error("a nudge used up that of another session")
	}
	if !n.allow(testSource(0), 7, now.Add(time.Second)) {
		t.Error("refused one about the same session after a second")
	}

	n = newNudger()
	allowed := 0
	for i := range 10_000 { // a flood from made-up addresses for two seconds
		if n.allow(testSource(i), 7, now.Add(time.Duration(i)*200*time.Microsecond)) {
			allowed++
		}
	}
	if allowed < 2*nudgesPerSecond || allowed > 3*nudgesPerSecond {
		t.Errorf("allowed %d in two seconds, want %d and a burst of %d at most", allowed, 2*nudgesPerSecond, nudgesPerSecond)
	}
	for i := range 10 * maxNudgedSessions { // slowly: bounded even so
		n.allow(testSource(i), 7, now.Add(time.Duration(i)*time.Second))
	}
	if len(n.last) > maxNudgedSessions {
		t.Errorf("remembers %d sessions", len(n.last))
	}
}

// TestNudgerServesADialler: amid 5,000 forged datagrams a second, from made-up sources and
// from its own, a dialler that sends ten times a second gets a nudge within seconds.
func TestNudgerServesADialler(t *testing.T) {
	dialler, now := testSource(0), time.Unix(1000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	n := newNudger()
	nudged, due := 0, 0
	for i := range 50_000 { // 10 s
		at := now.Add(time.Duration(i)*200*time.Microsecond + time.Duration(random.IntN(200))*time.Microsecond)
		source := testSource(random.IntN(1 << 16))
		if i%2 == 0 {
			source = dialler
		}
		n.allow(source, random.Uint32(), at)
		if i%500 == 0 {
			due = i + random.IntN(500)
		}
		if i == due && n.allow(dialler, 7, at.Add(time.Duration(random.IntN(100))*time.Microsecond)) {
			nudged++
		}
	}
	if nudged < 3 {
		t.Errorf("%d nudges in 10 s", nudged)
	}
}

func TestNudgedAccepts(t *testing.T) {
	gray := netip.MustParseAddrPort("192.0.2.2:51820")
	other := netip.MustParseAddrPort("192.0.2.3:51820")
	start := time.Unix(1000, 0)
	type nudge struct {
		from  netip.AddrPort
		index uint32
		after time.Duration
		want  bool
	}
	for _, c := range []struct {
		name   string
		nudges []nudge
	}{
		{"of the session in use", []nudge{{gray, 2, time.Second, true}}},
		{"of the one before", []nudge{{gray, 1, time.Second, true}}},
		{"of another", []nudge{{gray, 3, time.Second, false}}},
		{"from another address", []nudge{{other, 2, time.Second, false}}},
		{"of one long dead", []nudge{{gray, 2, 4 * time.Minute, false}}},
		{"too often", []nudge{
			{gray, 2, 1000 * time.Millisecond, true},
			{gray, 2, 1500 * time.Millisecond, false},
			{gray, 2, 2000 * time.Millisecond, true},
		}},
		{"a false one doesn't use up the second", []nudge{
			{gray, 3, time.Second, false},
			{gray, 2, time.Second, true},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n nudged
			n.sent(gray, 1, start.Add(-time.Minute))
			n.sent(gray, 2, start)
			for _, v := range c.nudges {
				if got := n.accept(v.from, v.index, start.Add(v.after)); got != v.want {
					t.Errorf("nudge of %d from %s after %v: accepted = %v, want %v", v.index, v.from, v.after, got, v.want)
				}
			}
		})
	}
}

func TestNudgedIsBounded(t *testing.T) {
	var n nudged
	for i := range 10 * maxNudgeTargets {
		n.sent(testSource(i), 1, time.Unix(1000, 0))
	}
	if len(n.targets) > maxNudgeTargets {
		t.Errorf("remembers %d addresses", len(n.targets))
	}
}
