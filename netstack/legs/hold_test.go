package legs

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// holder is a soloist whose clock stands still and who calls Settle itself.
type holder struct {
	*soloist
	before uint64 // segments that the leg had heard
}

// newHolder makes one to whose near database 9,000 bytes have been said.
func newHolder(t *testing.T) *holder {
	t.Helper()
	h := &holder{soloist: asked(t, func(s *soloist, c *Config) {
		c.Now = func() time.Duration { return time.Duration(s.stopped.Load()) }
	})}
	h.Await(t, "leg that is live", func() bool { h.relay.mu.Lock(); defer h.relay.mu.Unlock(); return h.relay.opening.live })
	h.data(0, 0, soloEdge, stacktest.Noise(1, 9000))
	h.awaitPayload(9000)
	h.holds = true
	h.stopped.Add(int64(10 * time.Millisecond))
	h.before = h.legHeard()
	return h
}

// legHeard is how many segments the leg has heard.
func (h *holder) legHeard() uint64 {
	return h.relay.leg.ep.Stats().(*tcp.Stats).SegmentsReceived.Value() - h.before
}

var holdSACK = []byte{1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0}

// Of small segments that follow each other fast, the leg hears as few as may be, and none
// that matters by itself waits.
func TestRelayHolds(t *testing.T) {
	const settle, some = -1, soloMSS
	type step struct {
		wait    time.Duration // before it
		seq, n  int           // settle: not a segment, but Settle
		ack     int
		options []byte
		holds   bool   // it is the first that is held
		heard   uint64 // how many segments the leg has heard then
	}
	const soon, late = time.Millisecond, 10 * time.Millisecond
	many := []step{{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}}
	const enough = (heldBytes + some - 1) / some
	for i := 2; i < enough; i++ {
		many = append(many, step{0, i * some, some, 0, nil, false, 1})
	}
	const together = 1 + (enough*some+maxTogether-1)/maxTogether
	many = append(many, step{0, enough * some, some, 0, nil, false, together}, step{0, (enough + 1) * some, some, 0, nil, true, together})
	for name, steps := range map[string][]step{
		"bulk": {
			{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}, {soon, 2 * some, 2 * some, 0, nil, false, 1},
			{0, settle, 0, 0, nil, false, 2}, {0, settle, 0, 0, nil, false, 2}, {soon, 4 * some, some, 0, nil, true, 2},
		},
		"one by one": {{0, 0, some, 0, nil, false, 1}, {late, some, some, 0, nil, false, 2}, {late, 2 * some, some, 0, nil, false, 3}},
		"segments": {
			{0, 0, some, 0, nil, false, 1}, {soon, some, maxTogether, 0, nil, true, 1}, {soon, some + maxTogether, 40 * some, 0, nil, false, 1},
			{0, settle, 0, 0, nil, false, 3},
		},
		"messages":         {{0, 0, some, 0, nil, false, 1}, {soon, some, 100, 0, nil, false, 2}, {soon, some + 100, 100, 0, nil, false, 3}},
		"with an end":      {{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}, {soon, 2 * some, 100, 0, nil, false, 2}},
		"much":             many,
		"a gap":            {{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}, {soon, 3 * some, some, 0, nil, true, 2}},
		"said again":       {{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}, {soon, some, some, 0, nil, true, 2}},
		"acks":             {{0, 0, 0, 1000, nil, false, 1}, {soon, 0, 0, 2000, nil, true, 1}, {soon, 0, 0, 3000, nil, false, 1}, {0, settle, 0, 0, nil, false, 2}},
		"the same ack":     {{0, 0, 0, 1000, nil, false, 1}, {soon, 0, 0, 2000, nil, true, 1}, {soon, 0, 0, 2000, nil, false, 3}, {soon, 0, 0, 2000, nil, false, 4}},
		"acks and data":    {{0, 0, some, 1000, nil, false, 1}, {soon, some, 0, 2000, nil, true, 1}, {soon, some, some, 3000, nil, false, 1}, {0, settle, 0, 0, nil, false, 2}},
		"SACK":             {{0, 0, some, 0, nil, false, 1}, {soon, some, some, 0, nil, true, 1}, {soon, 2 * some, 0, 0, holdSACK, false, 3}},
		"an ack at a time": {{0, 0, 0, 1000, nil, false, 1}, {late, 0, 0, 2000, nil, false, 2}, {late, 0, 0, 3000, nil, false, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHolder(t)
			said := stacktest.Noise(2, 200*some)
			end, ack := 0, 0
			for i, st := range steps {
				h.stopped.Add(int64(st.wait))
				if st.seq == settle {
					h.relay.Settle()
				} else {
					ack = max(ack, st.ack)
					options := bytes.Clone(st.options)
					if options != nil { // of bytes that the leg has sent
						binary.BigEndian.PutUint32(options[4:], f(5000))
						binary.BigEndian.PutUint32(options[8:], f(9000))
					}
					h.host(wire.ACK, st.seq, ack, soloEdge, said[st.seq:st.seq+st.n], options...)
					if end < st.seq+st.n && st.seq <= end {
						end = st.seq + st.n
					}
					if (h.kept > 0) != st.holds {
						t.Fatalf("step %d: held for %v", i, h.kept)
					}
				}
				if n := h.legHeard(); n != st.heard {
					t.Fatalf("step %d: the leg has heard %d segments, want %d", i, n, st.heard)
				}
			}
			h.relay.Settle()
			h.stopped.Add(int64(late)) // or it would not be time for an acknowledgement
			var got []byte
			told := f(0)
			for len(got) < end || told != f(ack) {
				g := h.frame()
				got, told = append(got, g.Payload...), g.Ack
			}
			if !bytes.Equal(got, said[:end]) {
				t.Error("other bytes come")
			}
			h.stop()
		})
	}
}

// A leg that is gone gets nothing any more: the next of the same connection would hear it.
func TestRelayHoldsNothingAfterTheEnd(t *testing.T) {
	h := newHolder(t)
	for at := 0; at < 3*soloMSS; at += soloMSS {
		h.host(wire.ACK, at, 0, soloEdge, stacktest.Noise(2, soloMSS))
	}
	if n := h.legHeard(); n != 1 || len(h.relay.held.list) == 0 {
		t.Fatalf("the leg has heard %d segments", n)
	}
	h.legs.ReleaseAll(EndMoved)
	h.awaitEnd(EndMoved)
	n := h.legHeard()
	h.relay.Settle()
	if len(h.relay.held.list) > 0 || h.legHeard() != n {
		t.Error("what was held has been passed on, or is still held")
	}
}
