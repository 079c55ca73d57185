package flow

import (
	"fmt"
	"time"
)

// held are the Relays that hold something for a moment. Only Read touches them.
type held struct {
	relays []Relay
	due    time.Duration // when all of them are to settle
	armed  bool          // the host's device has a deadline by which that is seen
}

// add takes in a Relay that holds something, for so long at most.
func (h *held) add(now time.Duration, r Relay, hold time.Duration) {
	if len(h.relays) == 0 || now+hold < h.due {
		h.due = now + hold
	}
	h.relays = append(h.relays, r)
}

// see has them settle if it is time, and otherwise sees to it that a Read which is about
// to block returns when it is. A Wake that comes just then may wait for that, too.
func (h *held) see(clock func() time.Duration, host Host) error {
	if len(h.relays) == 0 {
		return nil
	}
	switch now := clock(); {
	case now >= h.due:
		for i, r := range h.relays {
			r.Settle()
			h.relays[i] = nil
		}
		h.relays = h.relays[:0]
	case !h.armed:
		if err := host.SetReadDeadline(time.Now().Add(h.due - now)); err != nil {
			return fmt.Errorf("set a deadline for the host's device: %w", err)
		}
		h.armed = true
	}
	return nil
}
