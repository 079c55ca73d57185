package flow

import "time"

// held are the Relays that hold something for a moment. Only Read touches them.
type held struct {
	relays []Relay
	due    time.Duration // when all of them are to settle if Read looks then,
	late   time.Duration // and when it is to look at the latest
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
		return p.alarm.set(now, h.late)
	}
	for i, r := range h.relays {
		r.Settle()
		h.relays[i] = nil
	}
	h.relays = h.relays[:0]
	return p.alarm.set(now, 0)
}
