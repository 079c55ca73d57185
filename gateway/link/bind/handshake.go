package bind

import (
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
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
	mac1Key [blake2s.Size]byte
	mayDial bool

	// The last initiation, while it is worth repeating.
	pending bool
	repeats int
	due     time.Time
	to      *Endpoint
	message [sizeInitiation]byte
}

func newDialler(peers []Peer, random func() float64) *dialler {
	d := &dialler{random: random, peers: make([]dialledPeer, len(peers))}
	for i, p := range peers {
		d.peers[i] = dialledPeer{mac1Key: mac1Key(p.PublicKey), mayDial: p.MayDial}
	}
	return d
}

// initiate says whether an initiation may be sent, and if so remembers it in
// place of an earlier one to the same peer.
func (d *dialler) initiate(message []byte, to *Endpoint, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		p := &d.peers[i]
		if !isFor(message, &p.mac1Key) {
			continue
		}
		if !p.mayDial {
			return false
		}
		copy(p.message[:], message)
		p.to = to
		p.pending = true
		p.repeats = 0
		p.due = now.Add(d.wait(0))
		return true
	}
	return false
}

// answered takes note of a response: the initiation needs no repetition.
func (d *dialler) answered(index uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.peers {
		if p := &d.peers[i]; p.pending && senderIndex(p.message[:]) == index {
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

// A repetition is an initiation that is to be sent again.
type repetition struct {
	message [sizeInitiation]byte
	to      *Endpoint
}
