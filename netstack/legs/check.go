package legs

import (
	"github.com/onewaylink/gw/netstack/legs/rule"
	"github.com/onewaylink/gw/netstack/wire"
)

// newCheck makes the checker of a relay.
func newCheck(c *wire.Connection) *rule.Checker {
	k := rule.NewChecker(c)
	if c.FarSaid.Fin {
		k.HeardFin(c.FarSaid.End - 1)
	}
	return &k
}

// checkHears tells the checker what a frame has brought.
func (r *Relay) checkHears(f *wire.Frame) {
	r.check.HeardFar(f.Ack, f.Edge)
	r.check.Heard(f.Payload)
	for _, b := range f.Further {
		r.check.Heard(b)
	}
	if f.Fin {
		r.check.HeardFin(f.Seq + uint32(f.Size()))
	}
}

// breaks reports whether a segment for the near database breaks the rule, and counts
// it. It does not judge where nothing is checked.
func (r *Relay) breaks(s *wire.Segment, payload [][]byte) bool {
	if r.check == nil {
		return false
	}
	v := r.check.Segment(s, payload)
	if v == rule.NoViolation {
		return false
	}
	r.legs.violations[v].Add(1)
	r.legs.log.Error("a segment would have broken the rule", "near", r.id.Near, "far", r.id.Far, "violation", v,
		"seq", s.Seq, "ack", s.Ack, "window", s.Window, "flags", s.Flags)
	return true
}
