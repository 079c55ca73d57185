package ha

import "time"

// hostile is what a node of another site does that has valid keys for its own tunnels
// and none for the siblings' statements: it sends arbitrary well-formed messages, made
// up of its own numbers and of what it has received. It follows a plan for a while, so
// that a lie lasts, as well as plain noise.
type hostile struct {
	n       *node
	boot    uint64
	seq     [maxNodes]uint32
	claims  []sealed // of all sites, as received
	proofs  [maxNodes][]proof
	stopped bool

	script  func(from *node, ask *message) // answers questions in place of the plan
	plan    int                            // what it answers to them
	delay   time.Duration                  // of its answers
	hears   bool                           // it tells that it hears others
	pace    time.Duration
	replans int
}

// sealed is a claim with its tag.
type sealed struct {
	Claim
	tag Tag
}

// What a hostile witness answers about the asker's sibling.
const (
	planSilent   = iota // it is silent
	planNever           // it was never heard
	planNewest          // it is alive, with its newest proof
	planOldest          // the same with the oldest proof of this process
	planOther           // the same with another node's proof
	planForged          // the same with a forged proof
	planUnproved        // the same without a proof
	planAny             // one of these, drawn again each time
	plans
)

const maxKept = 64

func (w *world) subvert(n *node) {
	n.hostile = &hostile{n: n, boot: w.rng.Uint64() | 1, pace: w.between(2*time.Millisecond, 25*time.Millisecond)}
	n.up = true
	n.hostile.act()
}

// act sends one message and plans the next.
func (h *hostile) act() {
	w := h.n.w
	if h.stopped {
		return
	}
	if h.replans--; h.replans < 0 {
		h.replans = w.rng.IntN(100)
		h.plan, h.hears, h.delay = w.rng.IntN(plans), w.chance(0.7), 0
		if w.chance(0.3) {
			h.delay = w.between(0, 900*time.Millisecond)
		}
		if w.chance(0.1) {
			h.boot = w.rng.Uint64() | 1
		}
	}
	to := w.nodes[w.rng.IntN(len(w.nodes))]
	if to != h.n {
		m := h.message(to)
		h.say(to, &m)
	}
	w.after(w.between(0, h.pace), h.act)
}

func (h *hostile) say(to *node, m *message) {
	w := h.n.w
	h.seq[to.index]++
	m.boot, m.seq = h.boot, h.seq[to.index]
	if w.chance(0.01) {
		m.seq = w.rng.Uint32N(1 << 20)
	}
	w.send(h.n.index, to.index, appendMessage(nil, m))
}

// message makes up any message.
func (h *hostile) message(to *node) message {
	w := h.n.w
	m := message{kind: msgBeat, role: Role(w.rng.IntN(4)), flags: uint8(w.rng.UintN(beatFlags + 1)), reach: uint8(w.rng.UintN(4))}
	if w.chance(0.6) { // most of the time it looks like an active node
		m.role = Active
	}
	m.flags &^= flagHearsYou
	if h.hears {
		m.flags |= flagHearsYou
	}
	switch w.rng.IntN(12) {
	case 0:
		m = message{kind: msgAck, epoch: h.epoch()}
	case 1:
		m = message{kind: msgAsk, echoBoot: h.boot, echo: uint64(w.now), proof: h.proof(to, w.rng.IntN(plans))}
	case 2:
		m = message{kind: msgYield, epoch: h.epoch(), flags: uint8(w.rng.UintN(2)), reasonNum: uint8(w.rng.IntN(len(reasonCodes)))}
	case 3:
		m = message{kind: msgRefuse, epoch: h.epoch(), reasonNum: uint8(w.rng.IntN(len(reasonCodes)))}
	default:
		m.seen = h.epoch()
		own, yours := h.claim(h.n), h.claim(to)
		m.own, m.ownTag, m.yours, m.yoursTag = own.Claim, own.tag, yours.Claim, yours.tag
		m.proof, m.sibs = h.proof(to, w.rng.IntN(plans)), h.proof(to, w.rng.IntN(plans))
	}
	return m
}

// epoch makes up an epoch: near the wall clock, near the bound, or nonsense.
func (h *hostile) epoch() uint64 {
	w := h.n.w
	wall := uint64(1_700_000_000_000 + w.now/time.Millisecond)
	day := uint64(MaxAhead / time.Millisecond)
	switch w.rng.IntN(6) {
	case 0:
		return wall + w.rng.Uint64N(20_000)
	case 1:
		return wall + day/2 - 1000
	case 2:
		return wall + day - w.rng.Uint64N(3000)
	case 3:
		return wall + day + w.rng.Uint64N(20*day)
	case 4:
		return ^uint64(0) - w.rng.Uint64N(2)
	default:
		return w.rng.Uint64N(wall)
	}
}

// claim makes up a claim about the site of n: one that was received, or its epoch or
// its node changed, or all of it.
func (h *hostile) claim(n *node) sealed {
	w := h.n.w
	if len(h.claims) == 0 || w.chance(0.3) {
		c := sealed{Claim: Claim{h.epoch(), n.id}}
		if nodes := w.sites[n.site].Nodes; w.chance(0.5) {
			c.Node = nodes[w.rng.IntN(len(nodes))]
		}
		c.tag[0] = byte(w.rng.Uint32())
		return c
	}
	c := h.claims[w.rng.IntN(len(h.claims))]
	if w.chance(0.3) {
		c.Epoch = h.epoch()
	}
	if w.chance(0.2) {
		c.Node = w.nodes[w.rng.IntN(len(w.nodes))].id
	}
	return c
}

// proof returns the proof for n that a plan wants.
func (h *hostile) proof(n *node, plan int) proof {
	w := h.n.w
	if plan == planAny {
		plan = w.rng.IntN(planAny)
	}
	kept := h.proofs[0]
	if sib := n.index ^ 1; sib < len(w.nodes) && len(h.proofs[sib]) > 0 {
		kept = h.proofs[sib]
	}
	if len(kept) == 0 {
		return proof{}
	}
	switch plan {
	case planNewest:
		return kept[len(kept)-1]
	case planOldest:
		return kept[0]
	case planOther:
		other := h.proofs[w.rng.IntN(len(w.nodes))]
		if len(other) > 0 {
			return other[w.rng.IntN(len(other))]
		}
	case planForged:
		p := kept[len(kept)-1]
		p.uptime += uint64(w.rng.Uint32())
		if w.chance(0.5) {
			p.echo, p.role = uint64(w.rng.Uint32()), Active
		}
		return p
	}
	return proof{}
}

// hear keeps what is of use later, and answers questions by the plan.
func (h *hostile) hear(ev *simEvent) {
	w := h.n.w
	var m message
	if h.stopped || decode(ev.payload, &m) != nil {
		return
	}
	keep := func(p proof) {
		list := &h.proofs[ev.from]
		if p == (proof{}) || len(*list) > 0 && (*list)[len(*list)-1] == p {
			return
		}
		if len(*list) == maxKept {
			*list = append((*list)[:maxKept/2], (*list)[maxKept/2+1:]...)
		}
		*list = append(*list, p)
	}
	keep(m.proof)
	for _, c := range []sealed{{m.own, m.ownTag}, {m.yours, m.yoursTag}} {
		if c.Epoch != 0 && (len(h.claims) == 0 || h.claims[len(h.claims)-1] != c) {
			if len(h.claims) == maxKept {
				h.claims = h.claims[1:]
			}
			h.claims = append(h.claims, c)
		}
	}
	if m.kind != msgAsk {
		return
	}
	from := w.nodes[ev.from]
	if h.script != nil {
		h.script(from, &m)
		return
	}
	plan := h.plan
	if plan == planAny {
		plan = w.rng.IntN(planAny)
	}
	yours := h.claim(from)
	a := message{
		kind: msgAnswer, echoBoot: m.echoBoot, echo: m.echo, role: Active, yours: yours.Claim, yoursTag: yours.tag, sibs: h.proof(from, plan),
	}
	switch plan {
	case planSilent:
		a.flags, a.age, a.sibs = flagSilent, w.rng.Uint32N(100_000), h.proof(from, planNewest)
	case planNever:
		a.flags, a.age = flagSilent, unknownAge
	default:
		a.age = w.rng.Uint32N(100)
	}
	w.after(h.delay, func() { h.say(from, &a) })
}

func (h *hostile) stop() { h.stopped, h.n.up = true, false }
