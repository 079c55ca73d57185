package hello

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// never is a time that doesn't come.
const never = time.Duration(math.MaxInt64)

// DefaultInterval is the time between two hellos when Config names none.
const DefaultInterval = time.Second

const (
	// missed is the number of intervals without an answer after which the peer is lost.
	missed = 3
	// silence is the number of intervals that a session may stay without any
	// hello until the peer is taken for one that knows none.
	silence = 5
	// silentInterval is the number of intervals between two hellos to such a peer.
	silentInterval = 10
	// hurry divides the interval while an answer is awaited that matters.
	hurry = 4
	// answerRate and answerBurst bound what is sent on a peer's request, and challengeBurst what
	// is sent in answer to hellos that are not proven.
	answerRate     = 50 * time.Millisecond
	answerBurst    = 32
	challengeBurst = 8
	// restartBurst is how many restarts of the peer are believed at once, and one an interval
	// after that.
	restartBurst = 4
)

// Config is what a Peer needs to know.
type Config struct {
	// Site, Node and Software name this node to the peer.
	Site, Node, Software string
	// Boot is a random number that names this process.
	Boot uint64
	// Interval is the time between two hellos; 0 is DefaultInterval.
	Interval time.Duration
	// Keepalive of this node's WireGuard, told for display.
	Keepalive time.Duration
	// Capabilities of this node.
	Capabilities Capabilities
	// MTU is the largest inner packet in bytes that is of interest: the TUN's.
	MTU int
	// Overhead is the size in bytes of the IP and UDP headers around a payload.
	Overhead int
	// Sections are what this node shares with the peer, at most MaxSections.
	Sections []Section
	// Random returns numbers that nobody can predict; nil is the system's source.
	Random func() uint64
	// Wall reads this node's wall clock, for the display of skew.
	Wall func() time.Time
}

// A Peer says hello to one remote node. It is not safe for concurrent use.
// Times given to its methods must not go back.
type Peer struct {
	cfg  Config
	rand *rand.Rand

	state    State
	since    time.Duration
	session  time.Duration // when the latest session began
	live     bool          // there is a session
	ended    bool          // the owner says that there is none
	accepted bool          // the peer's process was let in; differences are only shown

	seq      uint32
	helloAt  time.Duration
	twoWayAt time.Duration // when an answer came last
	alive    time.Duration // when the hello was sent that it answered
	probe    probe

	heardAny  bool
	heardAt   time.Duration // when last came
	last      helloMsg      // newest
	window    window
	heardOut  heardMsg // what the peer has heard of ours
	skew      time.Duration
	theirs    uint8 // protocol version of the peer, once it has proven it or is refused for it
	other     otherVersion
	processes processes
	nonces    nonces
	candidate candidate // meaningful if its boot isn't 0

	rtt  rtt
	pmtu pathMTU
	cmp  comparison

	limits limits
	counts counts
}

// probe is a request for a sign of life, see Probe.
type probe struct {
	on   bool
	at   time.Duration // when it was sent; meaningful while on
	done time.Duration // when its answer is overdue
}

// limits bound what the peer can make this node do.
type limits struct {
	answers    bucket // to hellos of the present process
	challenges bucket // to hellos that are not proven
	restarts   bucket // of the peer that are believed
	lists      bucket // of attributes that are sent
	acks       bucket // to padded probes
	versions   bucket // to messages of other versions
}

// counts are those of the Snapshot.
type counts struct{ sent, received, bad uint64 }

// Output is what a method wants done: payloads to send to the peer, each in
// one datagram, and events in the order in which they happened.
type Output struct {
	Messages [][]byte
	Events   []Event
}

// New returns the state machine for one remote node.
func New(cfg Config) (*Peer, error) {
	switch {
	case cfg.Boot == 0:
		return nil, errors.New("hello: a random boot number is needed")
	case cfg.Wall == nil:
		return nil, errors.New("hello: a wall clock is needed")
	case cfg.MTU < pmtuFloor || cfg.MTU > math.MaxUint16 || cfg.Overhead >= pmtuFloor:
		return nil, fmt.Errorf("hello: MTU %d is out of range", cfg.MTU)
	case len(cfg.Sections) > MaxSections:
		return nil, fmt.Errorf("hello: %d sections, and a hello carries %d", len(cfg.Sections), MaxSections)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Random == nil {
		cfg.Random = cryptoRandom
	}
	cfg.Site, cfg.Node, cfg.Software = fit(cfg.Site, MaxName), fit(cfg.Node, MaxName), fit(cfg.Software, MaxName)
	return &Peer{
		cfg:     cfg,
		rand:    rand.New(rand.NewPCG(cfg.Boot, 0)),
		helloAt: never,
		nonces:  nonces{random: cfg.Random},
		pmtu:    newPathMTU(cfg.MTU, cfg.Interval, cfg.Random),
		cmp:     newComparison(cfg.Sections),

		limits: limits{
			answers:    bucket{every: answerRate, burst: answerBurst},
			challenges: bucket{every: answerRate, burst: challengeBurst},
			restarts:   bucket{every: cfg.Interval, burst: restartBurst},
			lists:      bucket{every: answerRate, burst: answerBurst},
			acks:       bucket{every: pmtuRate / 2, burst: 4 * pmtuParallel},
			versions:   bucket{every: time.Second, burst: 1},
		},
	}, nil
}

// SetCapabilities replaces the Config's. It is called before the first Session.
func (p *Peer) SetCapabilities(c Capabilities) { p.cfg.Capabilities = c }

// Session says that a WireGuard handshake with the peer was just completed, or
// that there is no session any more. No hello is sent without a session: it
// would wait inside WireGuard and arrive with an old time in it.
func (p *Peer) Session(now time.Duration, up bool) Output {
	var out Output
	p.live, p.ended = up, !up
	if !up {
		p.helloAt = never
		if p.state == Establishing || p.state == Silent {
			p.set(now, Down)
		}
		return out
	}
	p.session = now
	if p.state == Down {
		p.set(now, Establishing)
	}
	p.hello(now, &out, true)
	return out
}

// Probe asks the peer for a sign of life at once. Without one within three
// round trips, or 200 ms, it is lost.
func (p *Peer) Probe(now time.Duration) Output {
	var out Output
	if p.probe.on || !p.answering() {
		return out
	}
	p.probe.on, p.probe.at, p.probe.done = true, now, now+p.rtt.patience()
	p.hello(now, &out, true)
	p.helloAt = now + p.rtt.patience()/2 // the one may have been lost
	return out
}

// TooBig says that the local socket refused a packet to the peer for its size.
func (p *Peer) TooBig(now time.Duration) Output {
	p.pmtu.hint(now)
	return p.Tick(now)
}

// SetSections replaces what this node shares with the peer. A difference that
// arises while the peer is up is shown and doesn't stop it.
func (p *Peer) SetSections(now time.Duration, s []Section) Output {
	p.cmp.local(now, s)
	var out Output
	p.judge(now, &out)
	p.hello(now, &out, true)
	p.collect(now, &out)
	return out
}

// SetKeepalive replaces the keepalive that the peer is told.
func (p *Peer) SetKeepalive(d time.Duration) { p.cfg.Keepalive = d }

// Next is the time at which Tick is wanted.
func (p *Peer) Next(now time.Duration) time.Duration {
	at := min(p.helloAt, p.cmp.next())
	if p.live {
		at = min(at, p.pmtu.next(now))
	}
	if p.probe.on {
		at = min(at, p.probe.done)
	}
	switch {
	case p.answering():
		at = min(at, p.twoWayAt+missed*p.cfg.Interval)
	case p.live && p.silentAt() > now:
		at = min(at, p.silentAt())
	}
	return at
}

// Tick does what is due.
func (p *Peer) Tick(now time.Duration) Output {
	var out Output
	if p.answering() && (now-p.twoWayAt >= missed*p.cfg.Interval || p.probe.on && now >= p.probe.done) {
		p.lose(now, &out)
	}
	if p.live && (p.state == Establishing || p.state == Lost) && now >= p.silentAt() && (!p.heardAny || p.heardAt < p.session) {
		p.set(now, Silent)
		out.Events = append(out.Events, EventSilent)
	}
	if p.processes.expire(now) {
		out.Events = append(out.Events, EventDuplicate)
	}
	p.collect(now, &out)
	if now >= p.helloAt {
		p.hello(now, &out, p.hurried(now))
	}
	return out
}

// silentAt is when a session without hellos shows that the peer knows none.
func (p *Peer) silentAt() time.Duration { return p.session + silence*p.cfg.Interval }

// answering says whether the peer is one whose answers are expected.
func (p *Peer) answering() bool {
	return p.state == Up || p.state == Refused && p.theirs == Version
}

func (p *Peer) set(now time.Duration, s State) { p.state, p.since = s, now }

func (p *Peer) lose(now time.Duration, out *Output) {
	p.probe.on = false
	p.pmtu.pause()
	p.set(now, Lost)
	p.helloAt = min(p.helloAt, now)
	out.Events = append(out.Events, EventLost)
}

// collect runs the measurement and the comparison, and gathers what they send.
func (p *Peer) collect(now time.Duration, out *Output) {
	if !p.live {
		return
	}
	before := p.pmtu.mtu
	probes, ask := p.pmtu.tick(now, p.rtt.patience(), p.alive)
	for _, m := range probes {
		out.Messages = append(out.Messages, appendPadded(nil, &message{kind: kindProbe, probe: m}, int(m.size)-p.cfg.Overhead))
	}
	if p.pmtu.mtu != before {
		out.Events = append(out.Events, EventMTU)
	}
	if want := p.cmp.tick(now, p.rtt.patience()); want != nil {
		out.Messages = append(out.Messages, appendMessage(nil, &message{kind: kindWant, want: *want}))
	}
	if ask {
		p.hello(now, out, true)
	}
}

// hurried says whether an answer is awaited that matters.
func (p *Peer) hurried(now time.Duration) bool {
	return p.state == Establishing || p.state == Lost || p.probe.on || now-p.twoWayAt > p.cfg.Interval*3/2
}

// hello sends a hello and schedules the next, if there is a session.
func (p *Peer) hello(now time.Duration, out *Output, answer bool) {
	if !p.live {
		p.helloAt = never
		return
	}
	var echo *echoMsg
	switch {
	case p.heardAny:
		echo = &echoMsg{boot: p.last.boot, nonce: p.last.nonce, hold: now - p.heardAt}
	case p.candidate.boot != 0:
		echo = &echoMsg{boot: p.candidate.boot, nonce: p.candidate.nonce, hold: now - p.candidate.at}
	}
	p.send(now, out, answer, echo)

	gap := p.cfg.Interval
	switch {
	case p.state == Silent:
		gap *= silentInterval
	case p.state == Refused && !p.answering():
	case p.hurried(now):
		gap /= hurry
	}
	p.helloAt = now + gap*9/10 + time.Duration(p.rand.Int64N(int64(gap/5)+1))
}

// send sends a hello with an echo, which may be nil. answer asks the peer to answer at once.
func (p *Peer) send(now time.Duration, out *Output, answer bool, echo *echoMsg) {
	p.seq++
	p.counts.sent++
	m := message{kind: kindHello, hello: helloMsg{
		boot: p.cfg.Boot, seq: p.seq, nonce: p.nonces.next(now), echo: echo, wall: p.cfg.Wall().UnixNano(), answer: answer,
		interval: p.cfg.Interval, keepalive: p.cfg.Keepalive, caps: p.cfg.Capabilities, mtu: uint16(p.pmtu.mtu),
		heard: p.window.heard(), software: p.cfg.Software, site: p.cfg.Site, node: p.cfg.Node,
		sections: p.cmp.announce(),
	}}
	if p.processes.duplicate {
		m.hello.duplicate = [2]string{fit(p.processes.endpoints[0], MaxName), fit(p.processes.endpoints[1], MaxName)}
	}
	out.Messages = append(out.Messages, appendMessage(nil, &m))
}

// Snapshot returns what is known of the peer.
func (p *Peer) Snapshot(now time.Duration) Snapshot {
	s := Snapshot{
		State: p.state, Since: p.since, Reasons: p.reasons(),
		Protocol: p.theirs, Boot: p.last.boot,
		RTT: p.rtt.srtt, RTTVar: p.rtt.rttvar,
		LossOut: p.heardOut.loss(), LossIn: p.window.heard().loss(),
		MTUOut: p.pmtu.mtu, Skew: p.skew,
		Differences: slices.Clone(p.cmp.result), Omitted: p.cmp.omitted,
		Duplicate: p.processes.duplicate, DuplicateEndpoints: p.processes.endpoints,
		Sent: p.counts.sent, Received: p.counts.received, Bad: p.counts.bad,
	}
	if p.state == Silent {
		s.MTUOut = p.cfg.MTU // nothing can be measured; stock WireGuard uses it too
	}
	if p.heardAny {
		s.Site, s.Node, s.Software = p.last.site, p.last.node, p.last.software
		s.Capabilities, s.Keepalive, s.MTUIn = p.last.caps, p.last.keepalive, int(p.last.mtu)
		s.DuplicateSelfEndpoints = p.last.duplicate
		s.DuplicateSelf = p.last.duplicate != [2]string{}
	}
	return s
}
