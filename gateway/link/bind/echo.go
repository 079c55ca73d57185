package bind

import (
	"net/netip"
	"sync"
)

const (
	// maxExchanges bounds the handshakes remembered. Anyone can make up
	// initiations; a flood of them only costs the quick repetition.
	maxExchanges = 64
	// maxEchoes is how often a response is sent again: once for each
	// repetition of its initiation.
	maxEchoes = len(repeatAfter)
)

// responder remembers the responses to the latest initiations. When a response
// gets lost, the dialler repeats the initiation; wireguard-go would reject that
// as a replay, and the dialler would have to wait 5 s for its next one. So the
// response is repeated, too: the same bytes to the same address, fewer than
// those that asked for it. Safe for concurrent use.
type responder struct {
	mu   sync.Mutex
	ring [maxExchanges]exchange
	next int
}

// exchange is an initiation, known by its mac1, and the response to it.
type exchange struct {
	sender   uint32
	mac1     [mac1Size]byte
	from     netip.AddrPort
	answered bool
	echoes   int
	response [sizeResponse]byte
}

// arrived takes note of an initiation. If it is one that has been answered
// already, it returns the response to repeat.
func (r *responder) arrived(initiation []byte, from netip.AddrPort) (response [sizeResponse]byte, again bool) {
	sender, mac1 := senderIndex(initiation), initiationMAC1(initiation)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ring {
		x := &r.ring[i]
		if x.sender != sender || x.mac1 != mac1 || x.from != from {
			continue
		}
		if !x.answered || x.echoes == maxEchoes {
			return response, false
		}
		x.echoes++
		return x.response, true
	}
	r.ring[r.next] = exchange{sender: sender, mac1: mac1, from: from}
	r.next = (r.next + 1) % maxExchanges
	return response, false
}

// responds takes note of a response that is sent.
func (r *responder) responds(response []byte, to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ring {
		x := &r.ring[i]
		if x.sender == answeredIndex(response) && x.from == to && !x.answered {
			copy(x.response[:], response)
			x.answered = true
			return
		}
	}
}
