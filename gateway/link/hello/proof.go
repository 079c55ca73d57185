package hello

import (
	crand "crypto/rand"
	"encoding/binary"
	"time"
)

// A hello is proven if it echoes a number that this node put into one of its latest hellos. Only a
// party that has read that hello inside the tunnel knows the number. So a host that gets packets
// into the tunnel with the peer's address, and receives none, proves nothing.
//
// What is not proven changes no state. It causes at most one hello in answer, whose echo lets the
// sender prove itself. Which process speaks, that the peer was restarted, that two processes use
// its key, and that the link is up all need a proof.

// nonces holds the numbers of the latest hellos of this node.
type nonces struct {
	random func() uint64
	count  uint8
	sent   [256]nonce // by the lowest byte of the number
}

type nonce struct {
	number uint64
	at     time.Duration // when it was sent
}

// next returns the number for a hello that is sent now.
func (n *nonces) next(now time.Duration) uint64 {
	n.count++
	number := n.random()&^0xff | 1<<63 | uint64(n.count) // never 0
	n.sent[n.count] = nonce{number, now}
	return number
}

// sentAt returns when the hello with the number was sent. It reports false for a number that is
// none of the latest.
func (n *nonces) sentAt(number uint64) (time.Duration, bool) {
	e := n.sent[uint8(number)]
	return e.at, number != 0 && e.number == number
}

// candidate is the latest process that has proven nothing yet.
type candidate struct {
	boot, nonce uint64
	at          time.Duration // when its hello came
}

// proof returns when the hello was sent that h echoes. It reports false if h proves nothing.
func (p *Peer) proof(e *echoMsg) (time.Duration, bool) {
	if e == nil || e.boot != p.cfg.Boot {
		return 0, false
	}
	return p.nonces.sentAt(e.nonce)
}

// challenge answers a hello that is not proven. The answer is beside the regular hellos, whose
// echo is the present process's.
func (p *Peer) challenge(now time.Duration, h *helloMsg, out *Output) {
	p.candidate = candidate{boot: h.boot, nonce: h.nonce, at: now}
	if p.live && p.limits.challenges.take(now) {
		p.send(now, out, true, &echoMsg{boot: h.boot, nonce: h.nonce})
	}
}

// cryptoRandom returns random numbers that nobody can predict.
func cryptoRandom() uint64 {
	var b [8]byte
	crand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
