package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// lookEvery is how often those who follow live look for what has come.
	lookEvery = 50 * time.Millisecond
	// liveRing is the memory for those who follow live where nothing is kept otherwise.
	liveRing = 2 << 20
	// writeWithin is how long a client may take to accept what it is written.
	writeWithin = 10 * time.Second
)

// capturing keeps the recent past, where the configuration says so, and gives it to
// commands.
type capturing struct {
	gw   *Gateway
	keep *capture.Ring // nil where nothing is kept

	mu   sync.Mutex
	live *capture.Ring // while somebody follows live and keep is nil
	n    int           // how many do
}

// newCapturing begins to keep.
func newCapturing(g *Gateway) *capturing {
	c := &capturing{gw: g}
	if n := g.cfg.Local.Capture.Memory; n > 0 {
		c.keep = capture.New(n << 20)
		g.path.SetTap(c.keep)
	}
	return c
}

func (c *capturing) routes() []control.Route {
	return []control.Route{
		{Pattern: "GET /v1/capture", Handler: http.HandlerFunc(c.servePcapng)},
		{Pattern: "GET /v1/packets", Handler: http.HandlerFunc(c.servePackets)},
	}
}

// follow returns what is to be read live, and what ends that.
func (c *capturing) follow() (ring *capture.Ring, end func()) {
	if c.keep != nil {
		return c.keep, func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		c.live = capture.New(liveRing)
		c.gw.path.SetTap(c.live)
	}
	c.n++
	return c.live, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.n--; c.n == 0 {
			c.gw.path.SetTap(nil)
			c.live = nil
		}
	}
}

var errNothingKept = errors.New("nothing was kept: this gateway's configuration says capture { memory = 0 }; leave --last out for what comes from now on")

// servePcapng answers with a file: of the last so many seconds, or, without last, of
// what comes from now on, until the client leaves.
func (c *capturing) servePcapng(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	spec, err := status.ParseFlowSpec(q.Get("flow"))
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	var last time.Duration
	if text := q.Get("last"); text != "" {
		if last, err = time.ParseDuration(text); err != nil || last <= 0 {
			control.WriteError(w, http.StatusBadRequest, fmt.Errorf("last %q: use a time such as 60s", text))
			return
		}
		if c.keep == nil {
			control.WriteError(w, http.StatusConflict, errNothingKept)
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	out := newPatient(w)
	file, err := capture.NewWriter(out, capture.Labels{
		Software: "gw " + c.gw.version, Node: c.gw.cfg.SelfNode().Name, Device: c.gw.cfg.Local.TUN.Name,
	})
	if err != nil {
		return // the client has gone away; there is nobody else to tell
	}
	if last > 0 {
		since := time.Now().Add(-last).UnixNano()
		list := c.keep.NewReader().Read(func(rec *capture.Record) bool { return rec.At >= since && picks(&spec, &rec.Sight) })
		for i := range list {
			if file.Write(&list[i]) != nil {
				return // as above
			}
		}
		_ = file.Close(time.Now().UnixNano(), c.keep.Lost())
		return
	}
	_ = c.each(r.Context(), out, &spec, file.Write)
}

// servePackets answers with a line of JSON for each packet that was judged, answered or
// said by a relay, from now on, until the client leaves.
func (c *capturing) servePackets(w http.ResponseWriter, r *http.Request) {
	spec, err := status.ParseFlowSpec(r.URL.Query().Get("flow"))
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := newPatient(w)
	enc := json.NewEncoder(out)
	_ = c.each(r.Context(), out, &spec, func(rec *capture.Record) error {
		if rec.Point.Inbound() || rec.Reason != wire.OK || rec.Note == capture.Own || rec.Note == capture.FromRelay {
			return enc.Encode(packetStatus(rec))
		}
		return nil
	})
}

// each gives do all packets of the flows from now on, until ctx ends or do fails, and
// flushes out after each look.
func (c *capturing) each(ctx context.Context, out *patient, spec *status.FlowSpec, do func(*capture.Record) error) error {
	ring, end := c.follow()
	defer end()
	rd := ring.NewTail()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := out.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		list := rd.Read(func(rec *capture.Record) bool { return picks(spec, &rec.Sight) })
		for i := range list {
			if err := do(&list[i]); err != nil {
				return err
			}
		}
	}
}

// picks reports whether a packet is one of the flows, or an ICMP error about one.
func picks(spec *status.FlowSpec, s *capture.Sight) bool {
	if *spec == (status.FlowSpec{}) {
		return true
	}
	own, quoted, ok := s.Tuple()
	matches := func(t *capture.Tuple) bool {
		return spec.Matches(status.ProtoName(t.Proto), netip.AddrPortFrom(t.Source, t.SourcePort), netip.AddrPortFrom(t.Destination, t.DestPort))
	}
	return ok && (matches(&own) || quoted != nil && matches(quoted))
}

func packetStatus(rec *capture.Record) status.Packet {
	p := status.Packet{
		Time: time.Unix(0, rec.At), Side: "link", Direction: "out", Bytes: rec.Length,
		Verdict: status.TracePasses, Rule: rec.Rule, RulePos: rec.Pos, Note: rec.Note.String(),
	}
	if rec.Point.OnHost() {
		p.Side = "host"
	}
	if rec.Point.Inbound() {
		p.Direction = "in"
	}
	if rec.Reason != wire.OK {
		p.Verdict, p.Reason = status.TraceDropped, rec.Reason.String()
	}
	own, quoted, ok := rec.Tuple()
	if !ok {
		return p
	}
	p.Proto, p.Source, p.Destination = status.ProtoName(own.Proto), own.Source, own.Destination
	p.SourcePort, p.DestinationPort = own.SourcePort, own.DestPort
	p.Info = flagsText(own.Flags)
	if quoted != nil {
		p.Info = "error about " + status.EndText(netip.AddrPortFrom(quoted.Destination, quoted.DestPort))
		if what := icmpText(rec.Head); what != "" {
			p.Info = what + ", about " + status.EndText(netip.AddrPortFrom(quoted.Destination, quoted.DestPort))
		}
	}
	return p
}

// flagsText writes TCP's flags in words.
func flagsText(f uint8) string {
	var words []string
	for i, name := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if f&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}

// patient is an answer that goes on for as long as the client takes it.
type patient struct {
	w  io.Writer
	rc *http.ResponseController
}

// newPatient lifts the bounds that a short answer has.
func newPatient(w http.ResponseWriter) *patient {
	p := &patient{w: w, rc: http.NewResponseController(w)}
	p.extend()
	return p
}

func (p *patient) Write(b []byte) (int, error) { return p.w.Write(b) }

// Flush hands on what was written, and gives the client time for what is to come.
func (p *patient) Flush() error {
	p.extend()
	return p.rc.Flush()
}

// extend puts off the deadline for writing. It fails for no connection that the control
// socket has.
func (p *patient) extend() { _ = p.rc.SetWriteDeadline(time.Now().Add(writeWithin)) }
