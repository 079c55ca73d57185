package legs

import (
	"testing"

	"github.com/onewaylink/gw/netstack/legs/rule"
	"github.com/onewaylink/gw/netstack/wire"
)

// What breaks the rule is counted and not written, and the connection is raw from then
// on. The rule is broken by deceiving the gate.
func TestCheckReleases(t *testing.T) {
	for _, c := range []struct {
		want   rule.Violation
		change func(r *Relay)
		then   func(s *soloist)
	}{
		{rule.ViolationAck, func(r *Relay) { r.gate.HeardFar(n(4), n(soloEdge)) }, func(s *soloist) { s.relay.tell() }},
		{rule.ViolationEdge, func(r *Relay) { r.gate.HeardFar(n(0), n(soloEdge+3200)) }, func(s *soloist) { s.relay.tell() }},
		{rule.ViolationUnheard, func(r *Relay) { r.gate.Feed(9) }, func(s *soloist) { s.relay.feed(&wire.Frame{Payload: []byte("invented!")}) }},
		{rule.ViolationPayload, func(r *Relay) { r.gate.Feed(9); r.check.Heard([]byte("said that")) }, func(s *soloist) { s.relay.feed(&wire.Frame{Payload: []byte("said this")}) }},
		{rule.ViolationFin, func(*Relay) {}, func(s *soloist) { s.relay.sayFin() }},
		{rule.ViolationSeq, func(r *Relay) {
			r.gate.HeardNear(f(1), f(soloEdge))
			r.gate.HeardFar(n(0), n(soloEdge+32))
			r.check.HeardFar(n(0), n(soloEdge+32))
		},
			func(s *soloist) { s.relay.tell() }},
		{rule.ViolationReset, func(r *Relay) {
			r.check.HeardReset()
			r.check.HeardFar(n(4), n(soloEdge))
			r.gate.HeardFar(n(4), n(soloEdge))
		},
			func(s *soloist) { s.relay.tell() }},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			s := asked(t)
			s.sins = true
			s.host(wire.ACK, 0, 0, soloEdge, []byte("near says"))
			s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
			s.Await(t, "received", func() bool { return s.held() })
			s.relay.mu.Lock()
			c.change(s.relay)
			s.relay.mu.Unlock()
			c.then(s)
			s.awaitEnd(endRule)
			s.silent(0)
			for v, n := range s.legs.Stats().Violations {
				if want := v == c.want.String(); n > 0 != want {
					t.Errorf("%s: %d", v, n)
				}
			}
		})
	}
}

// Without Check nothing is judged, nor counted.
func TestCheckOff(t *testing.T) {
	s := asked(t, func(_ *soloist, c *Config) { c.Check = false })
	if s.relay.check != nil || s.legs.Stats().Violations != nil {
		t.Error("checked nevertheless")
	}
	s.data(0, 0, soloEdge, []byte("far says"))
	s.awaitPayload(8)
}
