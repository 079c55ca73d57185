package ha

import (
	"slices"
	"testing"
	"time"
)

// Operations of FuzzMachine: the low bits of a byte choose one, the others are its
// argument.
const (
	fuzzMessage  = iota // from node argument%4; the next byte is the payload's length
	fuzzPass            // as many milliseconds pass
	fuzzLeap            // as many tenths of a second pass
	fuzzHealth          // the argument's bits are the node's health
	fuzzGone            // the host of node argument%4 reports that its process is gone
	fuzzOperator        // drain or take over
	fuzzOps
)

// FuzzMachine feeds a living Machine a sequence of messages of all other nodes, passing
// time and health. It checks what must hold whatever they send: no panic, at most one
// reply to a message and only to its sender, state that does not grow, epochs that only
// this site's nodes raise, and no lead below a higher claim of the sibling.
func FuzzMachine(f *testing.F) {
	op := func(what, arg int) byte { return byte(arg*fuzzOps + what) }
	for _, m := range sampleMessages() {
		b := appendMessage(nil, &m)
		for from := range 4 {
			seed := []byte{op(fuzzLeap, 4), op(fuzzMessage, from), byte(len(b))}
			seed = append(append(seed, b...), op(fuzzPass, 40), op(fuzzHealth, from), op(fuzzGone, 1), op(fuzzLeap, 30), op(fuzzOperator, from))
			f.Add(append(seed, seed...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		z := newFuzzed(t)
		for steps := 0; len(b) > 0 && steps < 300; steps++ {
			what, arg := int(b[0])%fuzzOps, int(b[0])/fuzzOps
			b = b[1:]
			switch what {
			case fuzzMessage:
				if len(b) == 0 {
					return
				}
				size := min(int(b[0]), len(b)-1)
				z.message(NodeID{byte(arg%4 + 1)}, b[1:1+size])
				b = b[1+size:]
			case fuzzPass:
				z.pass(time.Duration(arg) * time.Millisecond)
			case fuzzLeap:
				z.pass(time.Duration(arg) * 100 * time.Millisecond)
			case fuzzHealth:
				z.check(z.m.SetHealth(z.now, Health{LAN: arg&1 != 0, Plane: arg&2 != 0, Records: arg&4 != 0}), NodeID{})
			case fuzzGone:
				z.check(z.m.Gone(z.now, NodeID{byte(arg%4 + 1)}), NodeID{})
			case fuzzOperator:
				out, err := z.m.Drain(z.now, arg&1 != 0)
				if arg&2 != 0 {
					out, err = z.m.Takeover(z.now, arg&1 != 0)
				}
				_ = err // a refusal is an answer
				z.check(out, NodeID{})
			}
		}
		z.m.Status(z.now)
	})
}

// fuzzed is node 1 of a site of nodes 1 and 2, linked to one of nodes 3 and 4.
type fuzzed struct {
	t   *testing.T
	m   *Machine
	now time.Duration

	persisted uint64
	allowed   uint64 // the highest epoch of this site that one of its nodes has named
	peers     int
}

const fuzzWall = 1_700_000_000_000

func newFuzzed(t *testing.T) *fuzzed {
	z := &fuzzed{t: t, now: time.Hour}
	m, err := New(z.now, Config{
		Self: NodeID{1}, Sites: []Site{{"red", []NodeID{{1}, {2}}}, {"gray", []NodeID{{3}, {4}}}}, Boot: 7, Auth: keyOf(9),
		Wall: func() int64 { return fuzzWall + int64(z.now/time.Millisecond) },
	})
	if err != nil {
		t.Fatal(err)
	}
	z.m, z.peers = m, len(m.peers)
	z.check(m.Tick(z.now), NodeID{})
	return z
}

func (z *fuzzed) pass(d time.Duration) {
	for end := z.now + d; ; {
		z.now = min(end, max(z.m.Next(), z.now+time.Millisecond))
		z.check(z.m.Tick(z.now), NodeID{})
		if z.now >= end {
			return
		}
	}
}

func (z *fuzzed) message(from NodeID, payload []byte) {
	var msg message
	if decode(payload, &msg) == nil && from == (NodeID{2}) { // the sibling may raise epochs
		limit := z.m.clock() + uint64(MaxAhead/time.Millisecond)
		for _, e := range []uint64{msg.seen, msg.own.Epoch, msg.yours.Epoch} {
			if e <= limit {
				z.allowed = max(z.allowed, e)
			}
		}
	}
	before := z.m.seen.epoch
	out, _ := z.m.Handle(z.now, from, payload)
	if from != (NodeID{2}) && z.m.seen.epoch != before && !slices.ContainsFunc(out, func(o Output) bool { return o.Kind == Persist }) {
		z.t.Fatalf("node %d raised the site's epoch from %d to %d", from[0], before, z.m.seen.epoch)
	}
	z.check(out, from)
}

// check holds the outputs of one call to what must be.
func (z *fuzzed) check(out []Output, from NodeID) {
	z.t.Helper()
	replies, beats := 0, 0
	for _, o := range out {
		switch o.Kind {
		case Send:
			var m message
			if err := decode(o.Payload, &m); err != nil {
				z.t.Fatalf("sends what can't be read: %v", err)
			}
			switch m.kind {
			case msgAck, msgAnswer, msgRefuse:
				if replies++; o.To != from {
					z.t.Fatalf("a reply goes to node %d, which sent nothing", o.To[0])
				}
			default:
				beats++
			}
		case Persist:
			if o.Epoch <= z.persisted {
				z.t.Fatalf("stores epoch %d after %d", o.Epoch, z.persisted)
			}
			z.persisted = o.Epoch
			if limit := max(z.allowed, z.m.wall()) + 1_000; o.Epoch > limit {
				z.t.Fatalf("claims epoch %d, and this site's nodes named %d at most", o.Epoch, limit)
			}
			z.allowed = max(z.allowed, o.Epoch)
		}
	}
	// A call may send heartbeats, questions and repetitions to each node, and claims twice.
	if replies > 1 || beats > 6*z.peers {
		z.t.Fatalf("%d replies and %d messages in one call", replies, beats)
	}
	if len(z.m.peers) != z.peers || len(out) > 64 || cap(z.m.call.buf) > 64<<10 || cap(z.m.call.scratch) > 1<<10 {
		z.t.Fatalf("state grows: %d outputs, %d and %d bytes", len(out), cap(z.m.call.buf), cap(z.m.call.scratch))
	}
	own := &z.m.sites[z.m.home]
	if z.m.leading() && own.claim.Node != z.m.cfg.Self {
		z.t.Fatalf("leads with node %d's claim", own.claim.Node[0])
	}
	if z.m.leading() && own.claim.Epoch != z.persisted {
		z.t.Fatalf("leads with epoch %d and has stored %d", own.claim.Epoch, z.persisted)
	}
}
