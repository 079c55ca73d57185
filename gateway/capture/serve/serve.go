// Package serve answers gw capture and gw trace --live on the control socket: with the packets that
// a capture.Ring has kept, and with those that come from now on.
package serve

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
	// lookEvery is how often a live answer looks for new packets.
	lookEvery = 50 * time.Millisecond
	// liveRing is the size in bytes of the ring for live answers where the gateway keeps no
	// packets.
	liveRing = 2 << 20
	// writeTimeout bounds how long a client may take to accept what was written to it.
	writeTimeout = 10 * time.Second
)

// A Tap puts the packets that it sees into a ring; nil ends that. SetTap may be called at any time.
type Tap interface {
	SetTap(*capture.Ring)
}

// Config configures a Server.
type Config struct {
	// Kept is the ring of the recent past, which the Tap fills already; nil if the gateway keeps
	// none.
	Kept *capture.Ring
	// Tap fills the ring of live answers if Kept is nil.
	Tap Tap
	// Labels are what a file says about its origin.
	Labels capture.Labels
}

// Server answers. It is safe for concurrent use.
type Server struct {
	cfg Config

	mu   sync.Mutex
	live *capture.Ring // for live answers, if Kept is nil
	n    int           // how many of them there are
}

// New returns a Server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Routes returns what the Server answers on the control socket.
func (s *Server) Routes() []control.Route {
	return []control.Route{
		{Pattern: "GET /v1/capture", Handler: http.HandlerFunc(s.servePcapng)},
		{Pattern: "GET /v1/packets", Handler: http.HandlerFunc(s.servePackets)},
	}
}

// follow returns the ring that a live answer reads, and what ends the answer's use of it.
func (s *Server) follow() (ring *capture.Ring, end func()) {
	if s.cfg.Kept != nil {
		return s.cfg.Kept, func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		s.live = capture.New(liveRing)
		s.cfg.Tap.SetTap(s.live)
	}
	s.n++
	return s.live, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n--; s.n == 0 {
			s.cfg.Tap.SetTap(nil)
			s.live = nil
		}
	}
}

var errNothingKept = errors.New("no past packets: this gateway is configured with capture { memory = 0 }; leave --last out to capture live")

// servePcapng answers with a file: of the past, as long as last says, or, without last, live until
// the client leaves.
func (s *Server) servePcapng(w http.ResponseWriter, r *http.Request) {
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
		if s.cfg.Kept == nil {
			control.WriteError(w, http.StatusConflict, errNothingKept)
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	out := newStream(w)
	file, err := capture.NewWriter(out, s.cfg.Labels)
	if err != nil {
		return // the client has gone
	}
	if last > 0 {
		since := time.Now().Add(-last).UnixNano()
		list := s.cfg.Kept.NewReader().Read(func(rec *capture.Record) bool { return rec.At >= since && picks(&spec, &rec.Sight) })
		for i := range list {
			if file.Write(&list[i]) != nil {
				return // the client has gone
			}
		}
		_ = file.Close(time.Now().UnixNano(), s.cfg.Kept.Lost())
		return
	}
	_ = s.each(r.Context(), out, &spec, file.Write)
}

// servePackets answers with a line of JSON for each packet that the gateway judges, answers or
// sends for a relay, until the client leaves.
func (s *Server) servePackets(w http.ResponseWriter, r *http.Request) {
	spec, err := status.ParseFlowSpec(r.URL.Query().Get("flow"))
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := newStream(w)
	enc := json.NewEncoder(out)
	_ = s.each(r.Context(), out, &spec, func(rec *capture.Record) error {
		if rec.Point.Inbound() || rec.Reason != wire.OK || rec.Note == capture.Own || rec.Note == capture.FromRelay {
			return enc.Encode(packetStatus(rec))
		}
		return nil
	})
}

// each calls do for every new packet of the flows, until ctx ends or do fails, and flushes out
// after each look.
func (s *Server) each(ctx context.Context, out *stream, spec *status.FlowSpec, do func(*capture.Record) error) error {
	ring, end := s.follow()
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
		if what := capture.ICMPText(rec.Head); what != "" {
			p.Info = what + ", about " + status.EndText(netip.AddrPortFrom(quoted.Destination, quoted.DestPort))
		}
	}
	return p
}

// flagsText names the TCP flags that are set.
func flagsText(f uint8) string {
	var words []string
	for i, name := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if f&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}

// stream is a response that lasts until the client leaves. It renews the write deadline before each
// wait, since the control socket bounds only short answers.
type stream struct {
	w  io.Writer
	rc *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	st := &stream{w: w, rc: http.NewResponseController(w)}
	st.extend()
	return st
}

func (st *stream) Write(b []byte) (int, error) { return st.w.Write(b) }

// Flush sends what was written.
func (st *stream) Flush() error {
	st.extend()
	return st.rc.Flush()
}

// extend puts the write deadline off. It cannot fail on a connection of the control socket.
func (st *stream) extend() { _ = st.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) }
