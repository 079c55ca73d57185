package health

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// world is a Board in virtual time, with one source.
type world struct {
	*Board
	now   time.Time
	found []Finding
}

func newWorld() *world {
	w := &world{now: time.Unix(1000, 0)}
	w.Board = New(Config{Now: func() time.Time { return w.now }, Logger: hclog.NewNullLogger()})
	w.Watch(func() []Finding { return w.found })
	return w
}

// pass lets time pass while the source reports the faults.
func (w *world) pass(d time.Duration, faults ...Fault) {
	w.found = nil
	for _, f := range faults {
		w.found = append(w.found, Finding{Fault: f, What: "what", Do: "do"})
	}
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(Every)
		w.Look()
	}
}

func (w *world) stands(f Fault) bool {
	for _, s := range w.Standing() {
		if s.Fault == f {
			return true
		}
	}
	return false
}

func TestFaultStandsAtOnce(t *testing.T) {
	w := newWorld()
	if lan, plane := w.Works(); !lan || !plane {
		t.Fatal("a new node does not work")
	}
	w.pass(Every, LANSilent)
	if lan, plane := w.Works(); lan || !plane {
		t.Error("a fault of the LAN disables", lan, plane)
	}
	w.pass(Every, LANSilent, Stuck)
	if lan, plane := w.Works(); lan || plane {
		t.Error("a fault of the plane does not disable it")
	}
	if s := w.Standing(); len(s) != 2 || s[0].Fault != LANSilent || s[0].Part != LAN || s[1].What != "what" || s[1].Do != "do" {
		t.Errorf("%+v", s)
	}
}

// TestWarningDisablesNothing: a fault of no part leaves the node able to serve.
func TestWarningDisablesNothing(t *testing.T) {
	w := newWorld()
	w.pass(time.Second, AddressTaken)
	if lan, plane := w.Works(); !lan || !plane || !w.stands(AddressTaken) {
		t.Error(lan, plane, w.Standing())
	}
}

// TestFaultOutlastsAPause: one that comes and goes stands all the time, for longer each time.
func TestFaultOutlastsAPause(t *testing.T) {
	w := newWorld()
	w.pass(Every, LANDown)
	w.pass(clearAfter - Every)
	if !w.stands(LANDown) {
		t.Fatal("cleared too soon")
	}
	w.pass(Every)
	if w.stands(LANDown) {
		t.Fatal("not cleared")
	}
	absent := func() (d time.Duration) {
		w.pass(Every, LANDown)
		for w.stands(LANDown) {
			w.pass(Every)
			d += Every
		}
		return d
	}
	for _, want := range []time.Duration{2 * clearAfter, 4 * clearAfter, 8 * clearAfter} {
		if got := absent(); got != want {
			t.Errorf("cleared after %v, want %v", got, want)
		}
	}
	for range 10 {
		absent()
	}
	if got := absent(); got != maxClear {
		t.Errorf("cleared after %v, want %v at most", got, maxClear)
	}
	if n := w.Raised()[LANDown]; n != 15 {
		t.Errorf("raised %d times", n)
	}
	w.pass(forgiveAfter)
	if got := absent(); got != clearAfter {
		t.Errorf("after a long time without it cleared after %v, want %v", got, clearAfter)
	}
}

func TestEveryFaultHasAPart(t *testing.T) {
	names := map[Fault]bool{}
	for _, f := range Known() {
		if names[f] {
			t.Error(f, "has two rows")
		}
		names[f] = true
		_ = PartOf(f)
	}
	if n := newWorld().Raised(); len(n) != len(names) {
		t.Errorf("%d counters for %d faults", len(n), len(names))
	}
}
