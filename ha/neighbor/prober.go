// Package neighbor proves that the LAN passes packets, as a carrier on the wire does not: it asks
// hosts of the LAN for their link addresses, by ARP (RFC 826) and neighbor discovery (RFC 4861).
// One answer proves both directions.
//
// A host that has answered is expected to answer again. While one does, the LAN works. When none
// of them does any more, the LAN is silent. A LAN on which no host has answered yet is unknown,
// and not silent.
package neighbor

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// pace is the time between two questions while hosts answer: one question to one host.
	pace = 400 * time.Millisecond
	// patience is how long a host may take to answer before all others are asked, too, and the time
	// between two rounds of questions to all.
	patience = 100 * time.Millisecond
	// silentAfter is how long no host may answer, in rounds of questions to all.
	silentAfter = 5
	// learnEvery is the time between two questions to a host that has not answered yet.
	learnEvery = 2 * time.Second
	// forgetAfter is how long a host that has ceased to answer is expected to: one that was
	// switched off for good must not keep the LAN silent.
	forgetAfter = 10 * time.Minute
	// maxHosts bounds the hosts that are asked.
	maxHosts = 8
)

// Prober decides whom to ask and what the answers mean. It does no I/O and reads no clock. It is
// not safe for concurrent use.
//
// The owner calls Tick at the time that Next returns, sends the questions that it returns, and
// calls Answered for each answer.
type Prober struct {
	hosts []host
	next  time.Duration
	learn time.Duration
	asked time.Duration // when the question was sent that no host has answered since
	// rounds counts the questions to all since a host has answered.
	rounds int
	// since is when the first unanswered question was sent; it counts while rounds >= silentAfter.
	since time.Duration
	wait  bool // a question has no answer yet
}

type host struct {
	addr     netip.Addr
	answered bool
	at       time.Duration // of the last answer
	asked    time.Duration // when it was asked last
}

// SetHosts names hosts that may answer, the likeliest first. Hosts that have answered lately stay.
func (p *Prober) SetHosts(now time.Duration, addrs []netip.Addr) {
	p.hosts = slices.DeleteFunc(p.hosts, func(h host) bool {
		return !h.answered && !slices.Contains(addrs, h.addr) || h.answered && now-h.at > forgetAfter
	})
	for _, a := range addrs {
		p.add(now, a)
	}
	if !p.expects() {
		p.wait, p.rounds = false, 0
	}
}

// Heard reports that a host of the LAN has sent something of its own: it may answer.
func (p *Prober) Heard(now time.Duration, a netip.Addr) { p.add(now, a) }

// add adds a host that may answer, if there is room, and has it asked soon.
func (p *Prober) add(now time.Duration, a netip.Addr) {
	if len(p.hosts) < maxHosts && p.find(a) == nil {
		p.hosts = append(p.hosts, host{addr: a})
		p.learn = min(p.learn, now+patience)
	}
}

// find returns the host with an address; nil when it is not known.
func (p *Prober) find(a netip.Addr) *host {
	if i := slices.IndexFunc(p.hosts, func(h host) bool { return h.addr == a }); i >= 0 {
		return &p.hosts[i]
	}
	return nil
}

// expects reports whether a host is expected to answer.
func (p *Prober) expects() bool {
	return slices.ContainsFunc(p.hosts, func(h host) bool { return h.answered })
}

// Next is when Tick has something to do.
func (p *Prober) Next() time.Duration { return min(p.next, p.learn) }

// Tick returns the hosts to ask now. The slice is valid until the next call.
func (p *Prober) Tick(now time.Duration) (ask []netip.Addr) {
	if now >= p.learn {
		p.learn = now + learnEvery
		if h := p.longestUnasked(false); h != nil {
			if h.asked == 0 {
				p.learn = now + patience // there may be another new one
			}
			h.asked = now
			ask = append(ask, h.addr)
		}
	}
	if now < p.next {
		return ask
	}
	h := p.longestUnasked(true)
	if h == nil {
		p.next = now + pace
		return ask
	}
	if !p.wait {
		p.wait, p.asked, h.asked = true, now, now
		p.next = now + patience
		return append(ask, h.addr)
	}
	// The last question has no answer: ask all that are expected to answer.
	if p.rounds == 0 {
		p.since = p.asked
	}
	p.rounds++
	for i := range p.hosts {
		if p.hosts[i].answered {
			p.hosts[i].asked = now
			ask = append(ask, p.hosts[i].addr)
		}
	}
	p.next = now + patience
	if p.rounds > silentAfter {
		p.next = now + pace
	}
	return ask
}

// longestUnasked returns the host whose last question is the oldest, of those that have answered or
// of those that have not; nil without one.
func (p *Prober) longestUnasked(answered bool) (out *host) {
	for i := range p.hosts {
		if h := &p.hosts[i]; h.answered == answered && (out == nil || h.asked < out.asked) {
			out = h
		}
	}
	return out
}

// Answered reports that a host has answered a question. It does nothing for a host that was not
// asked.
func (p *Prober) Answered(now time.Duration, a netip.Addr) {
	h := p.find(a)
	if h == nil {
		return
	}
	h.answered, h.at = true, now
	if p.wait {
		p.wait, p.rounds = false, 0
		p.next = max(p.next, p.asked+pace)
		if p.next > now+pace {
			p.next = now + pace
		}
	}
}

// Silent reports whether no host answers any more, since when, and how many were asked.
func (p *Prober) Silent() (since time.Duration, hosts int, silent bool) {
	for _, h := range p.hosts {
		if h.answered {
			hosts++
		}
	}
	return p.since, hosts, hosts > 0 && p.rounds > silentAfter
}
