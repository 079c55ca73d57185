package flow

import (
	"fmt"
	"time"
)

// held are the Relays that hold something for a moment. Only Read touches them.
type held struct {
	relays []Relay
	due    time.Duration // when all of them are to settle if Read looks then,
	late   time.Duration // and when it is to look at the latest
	until  time.Duration // the host's device has this deadline; 0 is none
}

// add takes in a Relay that holds something, for about so long. Under bulk something soon
// comes anyway: half as long again is better than to be woken for it.
func (h *held) add(now time.Duration, r Relay, hold time.Duration) {
	if len(h.relays) == 0 || now+hold < h.due {
		h.due, h.late = now+hold, now+hold+hold/2
	}
	h.relays = append(h.relays, r)
}

// settle has what is held settled if it is time, and otherwise sees to it that a Read which
// is about to block returns when it is.
func (p *Path) settle() error {
	h := &p.held
	if len(h.relays) == 0 {
		return nil
	}
	now := p.table.cfg.Now()
	if now < h.due {
		return p.setDeadline(now, h.late)
	}
	for i, r := range h.relays {
		r.Settle()
		h.relays[i] = nil
	}
	h.relays = h.relays[:0]
	return p.setDeadline(now, 0)
}

// setDeadline gives the host's device a deadline; 0 is none.
func (p *Path) setDeadline(now, until time.Duration) error {
	if until == p.held.until {
		return nil
	}
	p.held.until = until
	var at time.Time
	if until > 0 {
		at = time.Now().Add(until - now)
	}
	if err := p.host.SetReadDeadline(at); err != nil {
		return fmt.Errorf("set a deadline for the host's device: %w", err)
	}
	if p.woken.Load() {
		p.Wake() // that deadline is gone
	}
	return nil
}
