package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Repeats holds what stands between two databases to the one rule: toward a
// database it puts nothing on a TCP connection that the other has not sent.
// It captures at both databases and judges every segment that arrives at one of
// them by what has left the other: bytes, acknowledgement, right window edge, SACK
// blocks, SYN, FIN and RST. It has to see connections from their SYN on.
type Repeats struct {
	captures [2]*Capture
	hosts    [2]*Host
	addrs    [2][]netip.Addr // by side: red, gray

	mu     sync.Mutex
	until  time.Time // later packets are ignored; zero is never
	wires  [2]wire
	conns  map[tuple][]*connection // the newest last
	report RepeatsReport
	over   []over // connections that have ended, with bytes
	silent []over // and without
	free   [][]byte
}

// RepeatsReport is what a Repeats has found.
type RepeatsReport struct {
	// Judged is how many segments arrived, at red's database and at gray's.
	Judged [2]int
	// Bytes is their payload.
	Bytes int64
	// Connections is how many were opened.
	Connections int
	// Broken is how many segments broke the rule; Violations are the first of them.
	Broken     int
	Violations []Violation
	// Resets are those that arrived on connections that had not ended. They break no
	// rule if the other end has sent them.
	Resets []Reset
}

// Reset is a reset that arrived, and what RepeatsReport.Connections was when its
// connection had been opened.
type Reset struct {
	At         time.Time
	Connection int
	Segment
}

func (r Reset) String() string {
	return fmt.Sprintf("%s %v", r.At.Format("15:04:05.000000"), r.Segment)
}

// Violation is a segment that the other database had not sent.
type Violation struct {
	At  time.Time
	Why string
	Segment
}

func (v Violation) String() string {
	return fmt.Sprintf("%s %v: %s", v.At.Format("15:04:05.000000"), v.Segment, v.Why)
}

// String is the segment in one line.
func (s Segment) String() string {
	flags := ""
	for i, c := range "FSRPAU" {
		if s.Flags&(1<<i) != 0 {
			flags += string(c)
		}
	}
	return fmt.Sprintf("%s > %s %s seq %d len %d ack %d win %d options %x", s.Src, s.Dst, flags, s.Seq, s.Len, s.Ack, s.Window, s.Options)
}

// quoted is the segment without its payload, to keep.
func (s Segment) quoted() Segment {
	s.Options, s.Payload = slices.Clone(s.Options), nil
	return s
}

// Err is what is wrong: a broken rule, or too little seen to judge.
func (r RepeatsReport) Err() error {
	if r.Broken > 0 {
		lines := make([]string, len(r.Violations))
		for i, v := range r.Violations {
			lines[i] = v.String()
		}
		return fmt.Errorf("%d of %d segments were not sent by the other database, the first:\n%s",
			r.Broken, r.Judged[0]+r.Judged[1], strings.Join(lines, "\n"))
	}
	if r.Judged[0] == 0 || r.Judged[1] == 0 {
		return fmt.Errorf("%d segments seen at red's database and %d at gray's, want some at each: the test shows nothing", r.Judged[0], r.Judged[1])
	}
	return nil
}

const (
	// tolerance is by how much an arrival may seem to precede its cause. The
	// kernel notes the time of a packet before it leaves the sender, so a cause is
	// never late; but clocks of two processors differ a little, and several segments
	// that a receiver's kernel joins have the time of the first.
	tolerance = time.Millisecond
	// maxViolations and maxQuoted are how many violations and resets are quoted.
	maxViolations = 10
	maxQuoted     = 1000
	// incarnations is how many connections of one tuple are known at once: late
	// segments of an old one may arrive when the next is open.
	incarnations = 3
	// keepBytes is for how long the bytes of a connection that has ended are known,
	// and keepClosed for how long the rest is.
	keepBytes  = 10 * time.Second
	keepClosed = 3 * time.Minute
	// wholePackets is a snap length for what the kernel hands to a device at once.
	wholePackets = 1<<16 + 128
)

type tuple [2]netip.AddrPort // by side

// wire is what has been captured at one side and waits to be merged with the
// other's.
type wire struct {
	sent, received fifo
	latest         time.Time
}

// event is a segment at a time. Its slices are its own.
type event struct {
	at  time.Time
	seg Segment
	buf []byte
}

// WatchRepeats begins to judge what a database of red and one of gray receive from
// each other. The caller calls Stop.
func WatchRepeats(red, gray *Host) (*Repeats, error) {
	r := newRepeats(red.Addrs(), gray.Addrs())
	r.hosts = [2]*Host{red, gray}
	for side, h := range r.hosts {
		c, err := h.Capture("lan0", CaptureConfig{SnapLen: wholePackets, Each: func(p Packet) { r.take(side, p) }})
		if err != nil {
			if side == 1 {
				err = errors.Join(err, r.captures[0].Stop())
			}
			return nil, err
		}
		r.captures[side] = c
	}
	return r, nil
}

func newRepeats(red, gray []netip.Addr) *Repeats {
	return &Repeats{addrs: [2][]netip.Addr{red, gray}, conns: map[tuple][]*connection{}}
}

// Stop ends the captures, judges what is left, and returns what was found. The error
// is that of a capture; see [RepeatsReport.Err] for the rule.
func (r *Repeats) Stop() (RepeatsReport, error) {
	// One of the captures is the last to stop: it sees segments arrive that the other no
	// longer sees leave.
	r.mu.Lock()
	r.until = time.Now()
	r.mu.Unlock()
	err := errors.Join(r.captures[0].Stop(), r.captures[1].Stop())
	return r.end(), err
}

// Settle is Report when all that was captured before has been judged. It sends a
// datagram from each database to the other, by which time passes on both wires.
func (r *Repeats) Settle(ctx context.Context) (RepeatsReport, error) {
	now := time.Now()
	err := Until(ctx, "packets on both wires", func() (bool, error) {
		for i, h := range r.hosts {
			const discard = 9
			from, to := netip.AddrPortFrom(h.LAN4, discard), netip.AddrPortFrom(r.hosts[1-i].LAN4, discard)
			if err := h.SendIP(UDPPacket(from, to, nil)); err != nil {
				return false, err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		until := now.Add(2 * tolerance)
		return r.wires[0].latest.After(until) && r.wires[1].latest.After(until), nil
	})
	return r.Report(), err
}

// Report is what has been found so far. Segments of the last moments are missing.
func (r *Repeats) Report() RepeatsReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.report
	c.Violations, c.Resets = slices.Clone(c.Violations), slices.Clone(c.Resets)
	return c
}

// end judges what waits.
func (r *Repeats) end() RepeatsReport {
	r.mu.Lock()
	r.merge(func(time.Time) bool { return true })
	r.mu.Unlock()
	return r.Report()
}

// take adds a packet of a side's capture.
func (r *Repeats) take(side int, p Packet) {
	seg, ok := r.between(side, p)
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.wires[side]
	if !r.until.IsZero() && p.Time.After(r.until) {
		return
	}
	if ok {
		e := event{at: p.Time, seg: seg}
		if n := len(r.free); n > 0 {
			e.buf, r.free = r.free[n-1], r.free[:n-1]
		}
		e.buf = append(append(e.buf[:0], seg.Options...), seg.Payload...)
		e.seg.Options, e.seg.Payload = e.buf[:len(seg.Options)], e.buf[len(seg.Options):]
		if p.Outgoing {
			w.sent.push(e)
		} else {
			w.received.push(e)
		}
	}
	if p.Time.After(w.latest) {
		w.latest = p.Time
	}
	// Nothing older than the older of the two can arrive any more.
	until := r.wires[0].latest
	if r.wires[1].latest.Before(until) {
		until = r.wires[1].latest
	}
	r.merge(func(t time.Time) bool { return t.Before(until) })
}

// between reports whether a packet is a segment between the two databases.
func (r *Repeats) between(side int, p Packet) (s Segment, ok bool) {
	if s, ok = DecodeTCP(p); !ok {
		return s, false
	}
	from := side
	if !p.Outgoing {
		from = 1 - side
	}
	return s, slices.Contains(r.addrs[from], s.Src.Addr()) && slices.Contains(r.addrs[1-from], s.Dst.Addr())
}

// merge goes through the events of both wires in order of time, as far as due
// allows; a received segment counts as later by the tolerance.
func (r *Repeats) merge(due func(time.Time) bool) {
	for {
		var next *fifo
		var at time.Time
		side, received := 0, false
		for i := range r.wires {
			w := &r.wires[i]
			if e := w.sent.first(); e != nil && (next == nil || e.at.Before(at)) {
				next, at, side, received = &w.sent, e.at, i, false
			}
			if e := w.received.first(); e != nil && (next == nil || e.at.Add(tolerance).Before(at)) {
				next, at, side, received = &w.received, e.at.Add(tolerance), i, true
			}
		}
		if next == nil || !due(at) {
			return
		}
		e := next.pop()
		if received {
			r.receive(1-side, &e)
		} else {
			r.send(side, &e)
		}
		r.free = append(r.free, e.buf)
	}
}

// key is the tuple of a segment that side x has sent.
func key(x int, s *Segment) (k tuple) {
	k[x], k[1-x] = s.Src, s.Dst
	return k
}

func (r *Repeats) send(x int, e *event) {
	k := key(x, &e.seg)
	all := r.conns[k]
	syn := e.seg.Flags&SYN != 0
	opens := syn && e.seg.Flags&ACK == 0
	if len(all) == 0 && !opens {
		return // a late one of a connection that is forgotten; if it passes, it is judged
	}
	if opens && (len(all) == 0 || all[len(all)-1].ends[x].opened && all[len(all)-1].ends[x].isn != e.seg.Seq) {
		if len(all) == incarnations {
			all = all[1:]
		}
		r.report.Connections++
		all = append(all, &connection{number: r.report.Connections})
		r.conns[k] = all
	}
	c := all[len(all)-1]
	if !syn && e.seg.Flags&RST == 0 && !c.ends[x].opened && len(all) > 1 {
		// The other end has opened a new connection; this one does not know yet, and means
		// the previous one.
		c = all[len(all)-2]
	}
	open := c.closed.IsZero()
	c.send(x, &e.seg, e.at)
	if open && !c.closed.IsZero() {
		r.over = append(r.over, over{c, k})
	}
	r.forget(e.at)
}

// hear judges a segment by all incarnations, the newest first: one that allows it
// is enough.
func (r *Repeats) receive(x int, e *event) {
	r.report.Judged[1-x]++
	r.report.Bytes += int64(e.seg.Len)
	why := "no SYN has opened this connection"
	all := r.conns[key(x, &e.seg)]
	for i, c := range slices.Backward(all) {
		w := c.receive(x, &e.seg)
		if w == "" {
			r.reset(c, e)
			return
		}
		if i == len(all)-1 {
			why = w
		}
	}
	if len(e.seg.Payload) != e.seg.Len {
		why = "cut short by the capture"
	}
	r.report.Broken++
	if len(r.report.Violations) < maxViolations {
		r.report.Violations = append(r.report.Violations, Violation{e.at, why, e.seg.quoted()})
	}
}

// reset notes a reset, unless both ends had sent a FIN: then a segment that came
// twice has found that the socket is gone, as happens on any path.
func (r *Repeats) reset(c *connection, e *event) {
	if e.seg.Flags&RST != 0 && (len(c.ends[0].fins) == 0 || len(c.ends[1].fins) == 0) && len(r.report.Resets) < maxQuoted {
		r.report.Resets = append(r.report.Resets, Reset{e.at, c.number, e.seg.quoted()})
	}
}

// over is a connection that has ended.
type over struct {
	*connection
	tuple
}

// forget drops connections that ended long ago and that have been silent
// since: first the bytes, then the rest.
func (r *Repeats) forget(now time.Time) {
	for len(r.over) > 0 && now.Sub(r.over[0].closed) > keepBytes {
		o := r.over[0]
		r.over = r.over[1:]
		if now.Sub(o.last) <= keepBytes { // the other end did not believe the reset
			o.closed = o.last
			r.over = append(r.over, o)
			continue
		}
		for i := range o.ends {
			o.ends[i].bytes.drop()
		}
		r.silent = append(r.silent, o)
	}
	for len(r.silent) > 0 && now.Sub(r.silent[0].closed) > keepClosed {
		k := r.silent[0].tuple
		if all := r.conns[k]; len(all) > 0 && all[len(all)-1] == r.silent[0].connection {
			delete(r.conns, k)
		}
		r.silent = r.silent[1:]
	}
}

// fifo is a queue of events.
type fifo struct {
	items []event
	head  int
}

func (f *fifo) push(e event) { f.items = append(f.items, e) }

func (f *fifo) first() *event {
	if f.head == len(f.items) {
		return nil
	}
	return &f.items[f.head]
}

func (f *fifo) pop() event {
	e := f.items[f.head]
	f.items[f.head] = event{}
	f.head++
	switch {
	case f.head == len(f.items):
		f.items, f.head = f.items[:0], 0
	case f.head > 1024 && f.head > len(f.items)/2:
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return e
}
