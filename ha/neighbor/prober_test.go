package neighbor

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var (
	hostA = netip.MustParseAddr("10.77.1.10")
	hostB = netip.MustParseAddr("10.77.1.11")
	hostC = netip.MustParseAddr("fd77:1::10")
)

// world is a LAN in virtual time: the hosts in up answer after delay.
type world struct {
	Prober
	now   time.Duration
	up    map[netip.Addr]bool
	delay time.Duration
	due   []reply
	asked int
}

type reply struct {
	at   time.Duration
	addr netip.Addr
}

func newWorld(up ...netip.Addr) *world {
	l := &world{up: map[netip.Addr]bool{}, delay: time.Millisecond}
	for _, a := range up {
		l.up[a] = true
	}
	return l
}

// run lets time pass in steps of a millisecond, until done reports true.
func (l *world) run(d time.Duration, done func() bool) time.Duration {
	start := l.now
	for l.now-start < d && (done == nil || !done()) {
		l.now += time.Millisecond
		l.due = slices.DeleteFunc(l.due, func(r reply) bool {
			if r.at > l.now {
				return false
			}
			l.Answered(l.now, r.addr)
			return true
		})
		if l.now >= l.Next() {
			for _, a := range l.Tick(l.now) {
				l.asked++
				if l.up[a] {
					l.due = append(l.due, reply{l.now + l.delay, a})
				}
			}
		}
	}
	return l.now - start
}

func (l *world) silent() bool {
	_, _, silent := l.Silent()
	return silent
}

// TestSilence: when no host answers any more, the LAN is silent within a second, and not before
// half of one.
func TestSilence(t *testing.T) {
	for range 50 {
		l := newWorld(hostA, hostB)
		l.SetHosts(0, []netip.Addr{hostA, hostB, hostC})
		l.run(10*time.Second+rand.N(time.Second), l.silent)
		if l.silent() {
			t.Fatal("silent while hosts answer")
		}
		clear(l.up)
		if took := l.run(time.Minute, l.silent); took > 1100*time.Millisecond || took < 500*time.Millisecond {
			t.Errorf("silent after %v", took)
		}
		if since, n, _ := l.Silent(); n != 2 || l.now-since > time.Second {
			t.Errorf("%d hosts since %v, at %v", n, since, l.now)
		}
		l.up[hostB] = true
		if took := l.run(time.Minute, func() bool { return !l.silent() }); took > pace+10*time.Millisecond {
			t.Errorf("silent for %v after a host answers", took)
		}
	}
}

// TestOneHostIsEnough: hosts that go away one after the other, but for one.
func TestOneHostIsEnough(t *testing.T) {
	l := newWorld(hostA, hostB, hostC)
	l.SetHosts(0, []netip.Addr{hostA, hostB, hostC})
	l.run(20*time.Second, l.silent)
	delete(l.up, hostA)
	delete(l.up, hostC)
	if l.run(time.Minute, l.silent); l.silent() {
		t.Error("silent while a host answers")
	}
}

// TestUnknownIsNotSilent: a LAN on which none has answered yet.
func TestUnknownIsNotSilent(t *testing.T) {
	l := newWorld()
	l.SetHosts(0, []netip.Addr{hostA, hostB})
	if l.run(time.Minute, l.silent); l.silent() {
		t.Error("silent, and no host has ever answered")
	}
	l.up[hostA] = true
	l.run(2*learnEvery+time.Second, nil)
	delete(l.up, hostA)
	if took := l.run(time.Minute, l.silent); !l.silent() {
		t.Errorf("a host that answered late is not expected: not silent after %v", took)
	}
}

// TestSwitchedOffHostIsForgotten: one that is gone for good does not keep the LAN silent.
func TestSwitchedOffHostIsForgotten(t *testing.T) {
	l := newWorld(hostA)
	l.SetHosts(0, []netip.Addr{hostA})
	l.run(10*time.Second, nil)
	clear(l.up)
	l.run(2*time.Second, nil)
	if !l.silent() {
		t.Fatal("not silent")
	}
	l.run(forgetAfter, nil)
	l.SetHosts(l.now, nil)
	if l.silent() {
		t.Error("still silent")
	}
}

// TestHeardHostIsAskedSoon: a host that has just sent something of its own is expected to answer at
// once, and not when the list of hosts is made the next time.
func TestHeardHostIsAskedSoon(t *testing.T) {
	l := newWorld(hostA, hostB)
	l.SetHosts(0, nil)
	l.run(3*time.Second, nil)
	l.Heard(l.now, hostA)
	l.Heard(l.now, hostB)
	if took := l.run(time.Second, func() bool { return l.find(hostA).answered && l.find(hostB).answered }); took > 3*patience {
		t.Errorf("asked after %v", took)
	}
}

// TestLostFrames: a LAN that loses one frame of ten is not silent.
func TestLostFrames(t *testing.T) {
	l := newWorld(hostA, hostB)
	l.SetHosts(0, []netip.Addr{hostA, hostB})
	l.run(10*time.Second, nil)
	for range 6000 {
		l.up[hostA], l.up[hostB] = rand.IntN(10) > 0, rand.IntN(10) > 0
		l.run(100*time.Millisecond, nil)
		if l.silent() {
			t.Fatal("silent")
		}
	}
}

// TestQuestionsAreFew: a LAN that works is asked less than four times a second.
func TestQuestionsAreFew(t *testing.T) {
	l := newWorld(hostA, hostB)
	l.SetHosts(0, []netip.Addr{hostA, hostB, hostC})
	if l.run(100*time.Second, nil); l.asked > 400 {
		t.Errorf("%d questions in 100 s", l.asked)
	}
	clear(l.up)
	l.asked = 0
	if l.run(100*time.Second, nil); l.asked > 700 {
		t.Errorf("%d questions in 100 s of silence", l.asked)
	}
}

// TestHostsAreBounded: no more than maxHosts are asked, and a host that was not asked counts for
// nothing.
func TestHostsAreBounded(t *testing.T) {
	var p Prober
	var many []netip.Addr
	for a := hostA; len(many) < 1000; a = a.Next() {
		many = append(many, a)
	}
	p.SetHosts(0, many)
	if len(p.hosts) != maxHosts {
		t.Errorf("%d hosts", len(p.hosts))
	}
	p.Answered(0, many[999])
	if p.expects() {
		t.Error("a host that was not asked is expected to answer")
	}
}
