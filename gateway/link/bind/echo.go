package bind

import (
	"net/netip"
	"sync"
)

const (
	// maxExchanges bounds the handshakes remembered for each peer. More than one
	// are under way where a peer dials again before it has the response.
	maxExchanges = 4
	// maxEchoes is how often a response is sent again: once for each
	// repetition of its initiation.
	maxEchoes = len(repeatAfter)
)

// responder remembers the responses to the latest initiations of each peer. When a
// response gets lost, the dialler repeats the initiation; wireguard-go would reject that
// as a replay, and the dialler would have to wait 5 s for its next one. So the
// response is repeated, too: the same bytes to the same address, fewer than
// those that asked for it.
//
// Only what wireguard-go has authenticated is remembered, by the response to it, and
// for each peer apart: neither forged initiations nor those of another peer push it out.
// Safe for concurrent use.
type responder struct {
	mu    sync.Mutex
	peers []exchanges
}

type exchanges struct {
	ring [maxExchanges]exchange
	next int
}

// exchange is an initiation, known by the address that it came from and the index that its
// sender chose at random, and the response to it.
type exchange struct {
	sender   uint32
	from     netip.AddrPort // invalid in an unused one
	echoes   int
	response [sizeResponse]byte
}

func newResponder(peers int) *responder { return &responder{peers: make([]exchanges, peers)} }

// arrived returns the response to repeat if an initiation has been answered already.
func (r *responder) arrived(initiation []byte, from netip.AddrPort) (response [sizeResponse]byte, again bool) {
	sender := senderIndex(initiation)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.peers {
		for j := range r.peers[i].ring {
			x := &r.peers[i].ring[j]
			if x.sender == sender && x.from == from && x.echoes < maxEchoes {
				x.echoes++
				return x.response, true
			}
		}
	}
	return response, false
}

// responds takes note of a response that is sent to a peer.
func (r *responder) responds(response []byte, peer int, to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.peers[peer]
	p.ring[p.next] = exchange{sender: answeredIndex(response), from: to, response: [sizeResponse]byte(response)}
	p.next = (p.next + 1) % maxExchanges
}
