package bind

import (
	"slices"
	"sync"
	"time"
)

// repeatAfter is how long to wait for an answer to a handshake initiation
// before the same bytes are sent again: from the initiation, then from each
// repetition. They go on until there is a new initiation, which may take 15 s, so
// that a way that has returned after an outage is found at once. A responder that
// has the first copy takes no harm from the others: it rejects them as replays.
var repeatAfter = func() (waits [32]time.Duration) {
	for i := range waits {
		waits[i] = 500 * time.Millisecond
	}
	waits[0] = 250 * time.Millisecond
	return waits
}()

// maxCandidates is how many responses to an initiation are remembered. If forged ones push
// the real one out before wireguard-go has used it, the repetitions go on for no use.
const maxCandidates = 16

// repeatJitter is the part of the wait by which it is varied either way.
const repeatJitter = 0.2

// dialler decides who may be dialled and remembers the initiations that have
// not been answered yet. Safe for concurrent use.
type dialler struct {
	random func() float64 // in [0, 1)

	mu    sync.Mutex
	peers []dialledPeer
}

type dialledPeer struct {
	mac     macChecker
	mayDial bool
	dialsIn bool

	// The last initiation, while it is worth repeating.
	pending bool
	// candidates are the sender indices of the latest responses to it. Anyone who sees
	// the initiation can forge a response; see established.
	candidates [maxCandidates]uint32
	responses  int
	repeats    int
	due        time.Time
	to         Endpoint
	message    [sizeInitiation]byte
}

func newDialler(peers []Peer, random func() float64) *dialler {
	d := &dialler{random: random, peers: make([]dialledPeer, len(peers))}
	for i, p := range peers {
		d.peers[i] = dialledPeer{mac: newMACChecker(p.PublicKey), mayDial: p.MayDial, dialsIn: p.DialsIn}
	}
	return d
}

// initiate returns the peer that an initiation is for, and whether it may be sent. If so,
// initiate remembers it in place of an earlier one to the same peer.
func (d *dialler) initiate(message []byte, to Endpoint, now time.Time) (peer int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		p := &d.peers[i]
		if !p.mac.check(message) {
			continue
		}
		if !p.mayDial {
			return i, false
		}
		copy(p.message[:], message)
		p.to = to
		p.pending = true
		p.responses = 0
		p.repeats = 0
		p.due = now.Add(d.wait(0))
		return i, true
	}
	return -1, false
}

// respond returns the peer that a response is for, and whether that peer may dial this node.
func (d *dialler) respond(response []byte) (peer int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		if p := &d.peers[i]; p.mac.check(response) {
			return i, p.dialsIn
		}
	}
	return -1, false
}

// answered takes note of a response that has arrived, which may be forged.
func (d *dialler) answered(response []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		if p := &d.peers[i]; p.pending && senderIndex(p.message[:]) == answeredIndex(response) {
			p.candidates[p.responses%maxCandidates] = senderIndex(response)
			p.responses++
		}
	}
}

// established takes note that this node sends transport messages of a session, which the
// peer knows by index. wireguard-go does so at once when it has authenticated a response,
// and for no other: the initiation that was answered needs no further repetition.
func (d *dialler) established(index uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		p := &d.peers[i]
		if p.pending && slices.Contains(p.candidates[:min(p.responses, maxCandidates)], index) {
			p.pending = false
		}
	}
}

// forget drops all that is pending.
func (d *dialler) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		d.peers[i].pending = false
	}
}

// unsent drops what is pending to an endpoint: it has not been sent.
func (d *dialler) unsent(to Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		if p := &d.peers[i]; p.to == to {
			p.pending = false
		}
	}
}

// next appends to out the initiations that are due, and returns when the next
// ones will be; the zero time if nothing is pending.
func (d *dialler) next(now time.Time, out []repetition) ([]repetition, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wake time.Time
	for i := range d.peers {
		p := &d.peers[i]
		if !p.pending {
			continue
		}
		if !p.due.After(now) {
			out = append(out, repetition{message: p.message, to: p.to})
			p.repeats++
			if p.repeats == len(repeatAfter) {
				p.pending = false
				continue
			}
			p.due = now.Add(d.wait(p.repeats))
		}
		if wake.IsZero() || p.due.Before(wake) {
			wake = p.due
		}
	}
	return out, wake
}

func (d *dialler) wait(repeats int) time.Duration {
	factor := 1 + repeatJitter*(2*d.random()-1)
	return time.Duration(float64(repeatAfter[repeats]) * factor)
}

// A repetition is an initiation to send again.
type repetition struct {
	message [sizeInitiation]byte
	to      Endpoint
}
