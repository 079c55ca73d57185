package denials

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const gray, blue = 1, 2

var (
	host  = netip.MustParseAddr("10.77.1.10")
	plain = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
)

func try(from, to string) *Attempt {
	return &Attempt{Site: gray, Reason: "denied", Proto: 6, Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to)}
}

// TestFirstAtOnceThenOnceAMinute: the first attempt is due at once, those after it in one report a
// minute later, and nothing is due while nothing happens.
func TestFirstAtOnceThenOnceAMinute(t *testing.T) {
	l := New(3)
	l.Note(0, try("10.77.2.9:40000", "10.77.1.10:22"))
	want := []Report{{
		Site: gray, Reason: "denied", Proto: 6, Destination: host, Sources: []netip.Addr{netip.MustParseAddr("10.77.2.9")},
		Ports: []uint16{22}, PortCount: 1, Packets: 1,
	}}
	if d := cmp.Diff(want, l.Due(0, false), plain); d != "" {
		t.Errorf("first attempt (-want +got):\n%s", d)
	}
	for i := range 1203 {
		l.Note(time.Second, try(fmt.Sprintf("10.77.2.%d:40000", 9+i%4), fmt.Sprintf("10.77.1.10:%d", 1+i%312)))
	}
	if got := l.Due(Interval-1, false); len(got) > 0 {
		t.Errorf("within the minute: %+v", got)
	}
	got := l.Due(Interval, false)
	if len(got) != 1 || got[0].Packets != 1203 || got[0].PortCount != 312 || len(got[0].Sources) != 4 || got[0].MoreSources ||
		got[0].First != time.Second || !cmp.Equal(got[0].Ports, []uint16{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("after the minute: %+v", got)
	}
	if got := l.Due(10*Interval, true); len(got) > 0 {
		t.Errorf("with nothing new: %+v", got)
	}
}

// TestScanOfManyHosts: a scan of 65,536 addresses makes no more reports a minute than there are
// keys for its site, and one for the rest that has all their packets. Another site keeps its own.
func TestScanOfManyHosts(t *testing.T) {
	l := New(3)
	scan := func(now time.Duration) {
		for i := range uint32(1 << 16) {
			a := try("10.77.2.9:40000", "10.0.0.0:22")
			var to [4]byte
			binary.BigEndian.PutUint32(to[:], 10<<24|77<<16|i)
			a.Destination = netip.AddrPortFrom(netip.AddrFrom4(to), 22)
			l.Note(now, a)
		}
	}
	scan(0)
	other := try("10.77.3.9:40000", "10.77.1.10:22")
	other.Site = blue
	l.Note(0, other)
	var packets, others uint64
	sites := map[int]int{}
	for _, r := range l.Due(0, false) {
		sites[r.Site]++
		if packets += r.Packets; r.Others() {
			others += r.Packets
			if r.Destinations < 30_000 || r.Destinations > 1<<16-KeysPerSite {
				t.Errorf("the others went to %d destinations, of %d", r.Destinations, 1<<16-KeysPerSite)
			}
		}
	}
	if packets != 1<<16+1 || others != 1<<16-KeysPerSite || sites[gray] != KeysPerSite+1 || sites[blue] != 1 {
		t.Errorf("%d packets, %d of them in the aggregate, in reports %v", packets, others, sites)
	}
	// Each second of the scan changes nothing about that.
	lines := 0
	for s := range 300 {
		now := time.Duration(s) * time.Second
		scanned := try("10.77.2.9:40000", "10.77.1.1:22")
		for i := range uint32(1000) {
			var to [4]byte
			binary.BigEndian.PutUint32(to[:], 10<<24|77<<16|uint32(s)*1000%60000+i)
			scanned.Destination = netip.AddrPortFrom(netip.AddrFrom4(to), 22)
			l.Note(now, scanned)
		}
		lines += len(l.Due(now, false))
	}
	if most := (KeysPerSite + 1) * 5; lines > most {
		t.Errorf("%d reports in five minutes of scanning, want at most %d", lines, most)
	}
}

// TestQuietKeyGivesWay: a key that was silent for a minute gives its place to a new one.
func TestQuietKeyGivesWay(t *testing.T) {
	l := New(3)
	for i := range KeysPerSite {
		l.Note(0, try("10.77.2.9:1", fmt.Sprintf("10.77.1.%d:22", i+1)))
	}
	l.Due(0, false)
	l.Note(Interval-1, try("10.77.2.9:1", "10.77.1.200:22"))
	if got := l.Due(Interval-1, false); len(got) != 1 || !got[0].Others() {
		t.Errorf("before a minute has passed: %+v", got)
	}
	l.Note(Interval, try("10.77.2.9:1", "10.77.1.201:22"))
	if got := l.Due(Interval, false); len(got) != 1 || got[0].Destination != netip.MustParseAddr("10.77.1.201") {
		t.Errorf("after it: %+v", got)
	}
}

// TestTopAndCounts hold totals that no report resets.
func TestTopAndCounts(t *testing.T) {
	l := New(3)
	for i := range 5 {
		l.Note(time.Duration(i), try("10.77.2.9:1", "10.77.1.10:22"))
		l.Due(time.Duration(i), true)
	}
	spoofed := try("192.0.2.9:1", "10.77.1.11:23")
	spoofed.Site, spoofed.Reason = -1, "spoofed"
	l.Note(7, spoofed)
	want := []Report{
		{Site: gray, Reason: "denied", Proto: 6, Destination: host, Ports: []uint16{22}, Packets: 5, Last: 4},
		{Site: -1, Reason: "spoofed", Proto: 6, Destination: netip.MustParseAddr("10.77.1.11"), Ports: []uint16{23}, Packets: 1, First: 7, Last: 7},
	}
	if d := cmp.Diff(want, l.Top(8), plain); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := l.Top(1); len(got) != 1 {
		t.Errorf("the first of them: %+v", got)
	}
	if d := cmp.Diff([]Count{{-1, "spoofed", 1}, {gray, "denied", 5}}, l.Counts()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestSourcesAreBounded: spoofed sources take no memory.
func TestSourcesAreBounded(t *testing.T) {
	l := New(3)
	for i := range 200 {
		l.Note(0, try(fmt.Sprintf("10.77.2.%d:1", i+1), "10.77.1.10:22"))
	}
	if r := l.Due(0, false)[0]; len(r.Sources) != maxSources || !r.MoreSources {
		t.Errorf("%d sources, more: %v", len(r.Sources), r.MoreSources)
	}
}

// TestNoteAllocates nothing for a key that is known, nor for one beyond the bound.
func TestNoteAllocates(t *testing.T) {
	l := New(3)
	a := try("10.77.2.9:1", "10.77.1.10:22")
	var i uint32
	note := func() {
		var to [4]byte
		i++
		binary.BigEndian.PutUint32(to[:], 10<<24|i%4096)
		a.Destination = netip.AddrPortFrom(netip.AddrFrom4(to), uint16(i))
		l.Note(0, a)
	}
	for range 10_000 {
		note()
	}
	if n := testing.AllocsPerRun(10_000, note); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSet holds what is added, whatever comes first.
func TestSet(t *testing.T) {
	for _, members := range [][]uint16{{}, {0}, {7}, {0, 0}, {9, 9, 1}, {1, 0, 65535}, {64, 63, 64}} {
		var s set
		for range 2 {
			distinct, rest := map[uint16]bool{}, 0
			for _, m := range members {
				s.add(m)
				if distinct[m] = true; m == 0 {
					rest = 1
				}
			}
			list, n := s.list(8)
			if s.len() != len(distinct) || n != len(distinct)-rest || len(list) != n {
				t.Errorf("%v: %d members, listed %v of %d", members, s.len(), list, n)
			}
			s.clear()
		}
	}
}

func BenchmarkNoteScan(b *testing.B) {
	l := New(3)
	a := try("10.77.2.9:1", "10.77.1.10:22")
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		a.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), uint16(i))
		l.Note(0, a)
	}
}
