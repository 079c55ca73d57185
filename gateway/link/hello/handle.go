package hello

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Handle takes a payload that came from the peer. from is the endpoint at
// which the peer is seen, for display.
//
// The output is valid beside an error. Errors: [ErrMalformed],
// [ErrUnknownType] and [*VersionError].
func (p *Peer) Handle(now time.Duration, from string, payload []byte) (Output, error) {
	var out Output
	m, err := decode(payload)
	if err != nil {
		p.bad++
		var v *VersionError
		if errors.As(err, &v) {
			p.stranger(now, v.Theirs, &out)
		}
		return out, err
	}
	if !p.live && !p.ended {
		// It came through a session, so there is one.
		p.live, p.session = true, now
		p.helloAt = now
		if p.state == Down {
			p.set(now, Establishing)
		}
	}
	switch m.kind {
	case kindHello:
		p.heard(now, from, &m.hello, &out)
	case kindProbe:
		// The size that arrived counts, not the one that was meant.
		size := len(payload) + p.cfg.Overhead
		if size <= int(m.probe.size) && p.acks.take(now) {
			out.Messages = append(out.Messages, appendMessage(nil, &message{kind: kindAck, probe: probeMsg{id: m.probe.id, size: uint16(size)}}))
		}
	case kindAck:
		before := p.pmtu.mtu
		p.pmtu.acked(now, m.probe.id, int(m.probe.size))
		if p.pmtu.mtu != before {
			out.Events = append(out.Events, EventMTU)
		}
	case kindWant:
		if list, ok := p.cmp.serve(m.want); ok && p.answers.take(now) {
			out.Messages = append(out.Messages, appendMessage(nil, &message{kind: kindAttrs, attrs: list}))
		}
	case kindAttrs:
		before := p.cmp.result
		p.cmp.received(now, &m.attrs)
		p.compared(now, before, &out)
	}
	p.collect(now, &out)
	if !p.live {
		// The peer still sends through a session that is given up here.
		out.Messages = nil
	}
	return out, nil
}

// stranger deals with a peer of another version: each side is told the other's.
func (p *Peer) stranger(now time.Duration, theirs uint8, out *Output) {
	p.theirs = theirs
	if p.state != Refused && p.state != Up {
		p.set(now, Refused)
		out.Events = append(out.Events, EventRefused)
	}
	if !p.ended && p.versions.take(now) {
		p.live = true
		p.hello(now, out, false)
	}
}

// heard takes a hello.
func (p *Peer) heard(now time.Duration, from string, h *helloMsg, out *Output) {
	p.received++
	if p.theirs != Version {
		p.theirs = Version
		if p.state == Refused {
			p.set(now, Establishing)
		}
	}
	known := p.processes.duplicate
	switch p.processes.heard(now, h.boot, h.seq, from, p.cfg.Interval) {
	case lateProcess:
		return
	case oldProcess:
		p.window, p.heardOut = window{}, heardMsg{}
		if !known {
			out.Events = append(out.Events, EventDuplicate)
		}
	case newProcess:
		if p.heardAny {
			p.restarted(now, out)
		}
	}
	fresh, newest := p.window.add(h.seq)
	if !fresh {
		return
	}
	if newest {
		if none := [2]string{}; p.heardAny && (p.last.duplicate == none) != (h.duplicate == none) {
			out.Events = append(out.Events, EventDuplicate)
		}
		p.heardAny, p.heardAt, p.last = true, now, *h
		p.heardOut = h.heard
		p.pmtu.lossy(h.heard.loss() + p.window.heard().loss())
		p.skew = time.Unix(0, h.wall).Add(p.rtt.srtt / 2).Sub(p.cfg.Wall())
		before := p.cmp.result
		p.cmp.remote(now, h.sections)
		p.compared(now, before, out)
	}
	if p.state == Silent || p.state == Down {
		p.set(now, Establishing)
		p.helloAt = now
	}
	p.echoed(now, h.echo)
	p.judge(now, out)
	// While establishing, an answer brings the round trip that is missing.
	ask := p.state == Establishing && !p.answered()
	if (h.answer || ask) && p.answers.take(now) {
		p.hello(now, out, ask)
	}
}

// restarted deals with a new process that speaks for the peer: what was agreed
// with the former one is void.
func (p *Peer) restarted(now time.Duration, out *Output) {
	p.window, p.heardOut = window{}, heardMsg{}
	p.accepted, p.probing = false, false
	p.pmtu.pause()
	p.set(now, Establishing)
	out.Events = append(out.Events, EventRestarted)
}

// echoed takes what the peer returns of our clock.
func (p *Peer) echoed(now time.Duration, e *echoMsg) {
	if e == nil || e.boot != p.cfg.Boot || e.sent <= p.alive && p.twoWayAt > 0 || e.sent > now || e.sent < 0 {
		return
	}
	p.twoWayAt, p.alive = now, e.sent
	if p.probing && e.sent >= p.probeAt {
		p.probing = false
	}
	if d := now - e.sent - e.hold; d >= 0 && d <= rttMost && e.hold >= 0 {
		p.rtt.sample(d)
	}
}

// judge decides whether the peer is up, now that it may have answered.
func (p *Peer) judge(now time.Duration, out *Output) {
	waiting := p.state == Establishing || p.state == Lost || p.state == Refused
	if !waiting || !p.answered() || !p.accepted && !p.cmp.complete {
		return
	}
	if p.cmp.fatal() && !p.accepted {
		if p.state != Refused {
			p.set(now, Refused)
			out.Events = append(out.Events, EventRefused)
			p.pmtu.start(now)
		}
		return
	}
	p.accepted = true
	p.set(now, Up)
	out.Events = append(out.Events, EventUp)
	p.pmtu.start(now)
}

// answered says whether a hello was answered that was sent since the state began.
func (p *Peer) answered() bool { return p.twoWayAt > 0 && p.alive >= p.since }

// compared tells of a changed list of differences, and judges again.
func (p *Peer) compared(now time.Duration, before []Difference, out *Output) {
	if !p.cmp.complete {
		return
	}
	if !slices.Equal(before, p.cmp.result) {
		out.Events = append(out.Events, EventDifferences)
	}
	p.judge(now, out)
}

// reasons says why the peer is refused.
func (p *Peer) reasons() (out []string) {
	if p.state != Refused {
		return nil
	}
	if p.theirs != Version {
		return []string{(&VersionError{Theirs: p.theirs}).Error()}
	}
	for _, d := range p.cmp.result {
		if d.Fatal {
			what := d.Name
			if what == "" {
				what = d.Section
			}
			out = append(out, fmt.Sprintf("%s: %s", what, d.Kind))
		}
	}
	return out
}
