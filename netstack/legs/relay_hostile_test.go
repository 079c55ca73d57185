package legs

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// The other gateway sends what the near database has no room for: the leg keeps none of it.
// A single byte is a window probe (RFC 9293 section 3.8.6.1).
func TestRelayPastTheWindow(t *testing.T) {
	for _, c := range []struct {
		name   string
		beyond int
		want   *End
	}{
		{"up to the edge", 0, nil},
		{"a window probe", 1, nil},
		{"beyond", 2, &endWindow},
		{"far beyond", 100000, &endWindow},
	} {
		t.Run(c.name, func(t *testing.T) {
			eitherRole(t, func(s *soloist) {
				// As much as it takes at once, then some more.
				s.data(0, 0, soloEdge, stacktest.Noise(1, soloEdge-100))
				s.data(soloEdge-100, 0, soloEdge, stacktest.Noise(2, 100+c.beyond))
				if c.want != nil {
					s.awaitEnd(*c.want)
					if got := s.legs.Stats().Ends[c.want.Cause]; got != 1 {
						t.Errorf("counted %d times", got)
					}
					return
				}
				s.data(soloEdge+c.beyond, 7, soloEdge+7, nil)
				s.Await(t, "progress", func() bool {
					s.relay.mu.Lock()
					defer s.relay.mu.Unlock()
					return s.relay.gate.Fed() == f(soloEdge+c.beyond)
				})
				if e := s.relay.Ended(); e != nil {
					t.Errorf("ended: %s", e.Why)
				}
			})
		})
	}
}

// What another gateway gives as its reason is kept as far as people can read it.
func TestRefusalIsShort(t *testing.T) {
	for name, text := range map[string]string{
		"long":         strings.Repeat("no ", wire.MaxFramePayload/3),
		"runes":        strings.Repeat("é", 1000),
		"control":      "a\x1b[2Jb\r\nc\x00d\u202ee",
		"not UTF-8":    "a\xffb\xc3",
		"controls all": strings.Repeat("\x1b", 10000),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSolo(t)
			s.offer()
			s.answer(wire.Frame{Kind: wire.FrameRefuse, Payload: []byte(text)})
			s.awaitEnd(endRefused)
			s.mu.Lock()
			why := strings.TrimPrefix(s.detached[0].Why, endRefused.Why+": ")
			s.mu.Unlock()
			if len(why) == 0 || len(why) > maxReason || strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%d bytes are kept: %q", len(why), why)
			}
		})
	}
}

// A connection that would have to be cut into tiny segments is not relayed, whichever end asks for
// the small MSS and whichever side begins the relay.
func TestTinyMSSIsNotRelayed(t *testing.T) {
	s := newSolo(t)
	open, o := s.opening()
	for _, mss := range []uint16{0, 1, 48, wire.LeastMSS - 1} {
		for name, set := range map[string]func(*wire.Connection){
			"near": func(c *wire.Connection) { c.NearSaid.MSS = mss }, "far": func(c *wire.Connection) { c.FarSaid.MSS = mss },
		} {
			c := s.conn
			set(&c)
			if _, err := s.legs.Offer(c, s, s.mine, 0); !errors.Is(err, errTinyMSS) {
				t.Errorf("%s MSS %d: offered, %v", name, mss, err)
			}
			if _, err := s.legs.Accept(c, s, s.mine, open, o); !errors.Is(err, errTinyMSS) {
				t.Errorf("%s MSS %d: accepted, %v", name, mss, err)
			}
		}
	}
	if st := s.legs.Stats(); st.Relayed != 0 || st.Made != 0 {
		t.Errorf("%+v", st)
	}
}

// With the least MSS, segments are no smaller than that, whatever a router asks for.
func TestLeastMSS(t *testing.T) {
	for name, options := range map[string][]soloOption{"flat": nil, "offload": {offloaded}} {
		t.Run(name, func(t *testing.T) {
			small := func(s *soloist, _ *Config) { s.conn.NearSaid.MSS = wire.LeastMSS }
			s := asked(t, append(options, small)...)
			for _, mtu := range []int{0, -1, 1, 40} {
				s.relay.TooBig(mtu)
			}
			const sent = 500 // no more than a leg sends at once
			s.data(0, 0, soloEdge, stacktest.Noise(1, sent))
			s.awaitPayload(sent)
			list := s.segments()
			if most := 2 * sent / (wire.LeastMSS / 2); len(list) > most {
				t.Errorf("%d bytes went in %d packets, at most %d", sent, len(list), most)
			}
			for _, w := range list {
				if len(w.payload) > 0 && (w.size <= wire.IPv4Header+wire.TCPHeader || w.size > wire.MaxTCPHeaders+wire.LeastMSS) {
					t.Errorf("a packet of %d bytes", w.size)
				}
			}
		})
	}
}
