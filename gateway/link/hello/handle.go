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
		p.counts.bad++
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
		if size <= int(m.probe.size) && p.limits.acks.take(now) {
			out.Messages = append(out.Messages, appendMessage(nil, &message{kind: kindAck, probe: probeMsg{id: m.probe.id, size: uint16(size)}}))
		}
	case kindAck:
		before := p.pmtu.mtu
		p.pmtu.acked(now, m.probe.id, int(m.probe.size))
		if p.pmtu.mtu != before {
			out.Events = append(out.Events, EventMTU)
		}
	case kindWant:
		if list, ok := p.cmp.serve(m.want); ok && p.limits.lists.take(now) {
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

// heard handles a hello.
func (p *Peer) heard(now time.Duration, from string, h *helloMsg, out *Output) {
	p.counts.received++
	at, proven := p.proof(h.echo)
	turn := p.processes.turn(h.boot, h.seq, at, proven)
	if turn == newProcess && p.heardAny && !p.limits.restarts.take(now) {
		return // the next hello proves it again
	}
	if turn == unproven || turn == lateProcess {
		p.challenge(now, h, out)
		return
	}
	if proven && p.theirs != Version {
		p.theirs = Version
		if p.state == Refused {
			p.set(now, Establishing)
		}
	}
	known := p.processes.duplicate
	p.processes.heard(now, turn, h.boot, h.seq, from)
	switch turn {
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
	if proven {
		p.echoed(now, at, h.echo.hold)
	}
	p.judge(now, out)
	// While establishing, an answer brings the round trip that is missing.
	ask := p.state == Establishing && !p.answered()
	if (h.answer || ask) && p.limits.answers.take(now) {
		p.hello(now, out, ask)
	}
}

// restarted handles a new process of the peer. What was agreed with the former process is void,
// and the link is establishing until the new one answers a hello that is sent from now on: the
// owner sees that the link was not up meanwhile.
func (p *Peer) restarted(now time.Duration, out *Output) {
	p.window, p.heardOut = window{}, heardMsg{}
	p.accepted, p.probe.on = false, false
	p.pmtu.pause()
	p.cmp.restarted()
	p.set(now, Establishing)
	out.Events = append(out.Events, EventRestarted)
}

// echoed notes that the peer has answered the hello that was sent at a time, hold after it came.
func (p *Peer) echoed(now, at, hold time.Duration) {
	if at <= p.alive && p.twoWayAt > 0 {
		return
	}
	p.twoWayAt, p.alive = now, at
	if p.probe.on && at >= p.probe.at {
		p.probe.on = false
	}
	if d := now - at - hold; d >= 0 && d <= rttMost && hold >= 0 {
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

// maxReasons bounds the differences that are named as reasons.
const maxReasons = 8

// reasons returns why the peer is refused.
func (p *Peer) reasons() (out []string) {
	if p.state != Refused {
		return nil
	}
	if p.theirs != Version {
		return []string{(&VersionError{Theirs: p.theirs}).Error()}
	}
	fatal := 0
	for _, d := range p.cmp.result {
		if !d.Fatal {
			continue
		}
		if fatal++; fatal <= maxReasons {
			what := d.Name
			if what == "" {
				what = d.Section
			}
			out = append(out, fmt.Sprintf("%s: %s", what, d.Kind))
		}
	}
	if fatal > maxReasons {
		out = append(out, fmt.Sprintf("and %d more", fatal-maxReasons))
	}
	return out
}
