package hello

import (
	"math/bits"
	"time"
)

// Bulk leaves in trains: datagrams of equal size that one system call hands to the kernel and that
// the network card cuts up (UDP_SEGMENT in udp(7)). Cards, hypervisors and kernels have spoiled
// trains while each single datagram passed, so that hellos saw a path without loss and bulk made
// nothing. So trains are probed as well, while bulk uses them.
//
// A train counts as lost if fewer than trainPass of its trainLen probes are acknowledged.
// Congestion loses trains, too, so after each lost one as many probes of the same size leave one by
// one, at once. Congestion hits both. Only where trains are lost and singles pass, trainLost times
// without a good train between, trains are called off.
const (
	trainLen   = 8
	trainPass  = 5 // of trainLen; a spoiled train delivers its first datagram at most
	singlePass = 7
	trainLost  = 6
	// trainEvery is the time between two tests while trains are used, and trainSoon after a test
	// that has not passed.
	trainEvery = 5 * time.Second
	trainSoon  = 200 * time.Millisecond
	// Trains that were called off are tried again, after trainBackoff first and twice as long each
	// time up to trainBackoffMost; half the tests decide then.
	trainBackoff     = 10 * time.Minute
	trainBackoffMost = 4 * time.Hour
	trainLostAgain   = trainLost / 2
)

// trains tests whether trains reach the peer. The zero value believes that they do.
type trains struct {
	used   bool // trains have left since the last test
	nextAt time.Duration

	phase    trainPhase
	ids      [trainLen]uint32
	acked    uint8 // bit i: ids[i] has arrived
	size     int
	deadline time.Duration

	lost    int  // tests in a row with a lost train and singles that passed
	off     bool // trains are called off, until
	tryAt   time.Duration
	trial   bool // they are tried again
	backoff time.Duration
}

type trainPhase uint8

const (
	trainIdle trainPhase = iota
	trainWhole
	trainSingly
)

// next is when tick has something to do.
func (t *trains) next() time.Duration {
	switch {
	case t.phase != trainIdle:
		return t.deadline
	case t.off:
		return t.tryAt
	case t.used:
		return t.nextAt
	}
	return never
}

// tick returns the probes to send, whole as one train or one by one, and whether trains were called
// off or on.
func (t *trains) tick(now, patience time.Duration, size int, random func() uint64) (probes []probeMsg, whole, changed bool) {
	if t.phase == trainIdle {
		switch {
		case t.off && now >= t.tryAt:
			t.off, t.trial, changed = false, true, true
		case t.off || !t.used || now < t.nextAt:
			return nil, false, false
		}
		t.used = false
		t.begin(trainWhole, now+patience, size, random)
		return t.probes(), true, changed
	}
	if now < t.deadline {
		return nil, false, false
	}
	if t.phase == trainWhole {
		t.begin(trainSingly, now+patience, t.size, random)
		return t.probes(), false, false
	}
	t.again(now) // singles are lost as well: it says nothing about trains
	return nil, false, false
}

func (t *trains) begin(phase trainPhase, deadline time.Duration, size int, random func() uint64) {
	t.phase, t.deadline, t.size, t.acked = phase, deadline, size, 0
	for i := range t.ids {
		t.ids[i] = uint32(random()) | 1
	}
}

func (t *trains) probes() (out []probeMsg) {
	for _, id := range t.ids {
		out = append(out, probeMsg{id: id, size: uint16(t.size)})
	}
	return out
}

// again ends a test and has another one follow soon.
func (t *trains) again(now time.Duration) {
	t.phase, t.used, t.nextAt = trainIdle, true, now+trainSoon
}

// arrived is told that the probe id arrived whole. It reports whether trains were called off.
func (t *trains) arrived(now time.Duration, id uint32, size int) (changed bool) {
	if t.phase == trainIdle || size != t.size {
		return false
	}
	for i := range t.ids {
		if t.ids[i] == id {
			t.acked |= 1 << i
		}
	}
	switch n := bits.OnesCount8(t.acked); {
	case t.phase == trainWhole && n >= trainPass:
		t.phase, t.nextAt, t.lost = trainIdle, now+trainEvery, 0
		if t.trial {
			t.trial, t.backoff = false, 0
		}
	case t.phase == trainSingly && n >= singlePass:
		t.lost++
		enough := trainLost
		if t.trial {
			enough = trainLostAgain
		}
		if t.lost < enough {
			t.again(now)
			break
		}
		t.backoff = min(max(2*t.backoff, trainBackoff), trainBackoffMost)
		*t = trains{off: true, tryAt: now + t.backoff, backoff: t.backoff}
		return true
	}
	return false
}

// pause ends a test, because the peer doesn't answer.
func (t *trains) pause() { t.phase = trainIdle }

// TrainsUsed says that datagrams have left in trains since the last call.
func (p *Peer) TrainsUsed() { p.trains.used = true }

// testsTrains reports whether trains can be tested: the peer answers, and the size of the path is
// known.
func (p *Peer) testsTrains() bool { return p.live && p.state == Up && p.pmtu.on && !p.pmtu.searching }

// testTrains does what is due for the test of trains.
func (p *Peer) testTrains(now time.Duration, out *Output) {
	if !p.testsTrains() {
		p.trains.pause()
		return
	}
	probes, whole, changed := p.trains.tick(now, p.rtt.patience(), p.pmtu.mtu, p.cfg.Random)
	for _, m := range probes {
		b := appendPadded(nil, &message{kind: kindProbe, probe: m}, int(m.size)-p.cfg.Overhead)
		if whole {
			out.Train = append(out.Train, b)
		} else {
			out.Messages = append(out.Messages, b)
		}
	}
	if changed {
		out.Events = append(out.Events, EventTrains)
	}
}
