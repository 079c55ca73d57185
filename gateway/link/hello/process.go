package hello

import "time"

// duplicateMemory is how long a duplicate is shown after it was last seen.
const duplicateMemory = time.Minute

// processes watches which process of the peer speaks. Each names itself by a random number. A
// number that is replaced by another is a restart. One that returns after another has spoken is a
// second process with the same key. Both need a proof (proof.go).
type processes struct {
	now, before process
	endpoints   [2]string // of a duplicate
	seenAt      time.Duration
	duplicate   bool
}

type process struct {
	boot  uint64
	seq   uint32
	since time.Duration
	from  string
}

// A turn says which process sent a hello, compared to the hello before.
type turn uint8

const (
	sameProcess turn = iota
	newProcess       // one never heard
	oldProcess       // the one before the present one, which is a duplicate then
	lateProcess      // the one before, with a hello that it sent before the present one began
	unproven         // another than the present one, without a proof
)

// turn returns which process sent a hello. proof is when the hello of this node was sent that it
// echoes; proven is false if it echoes none.
func (p *processes) turn(boot uint64, seq uint32, proof time.Duration, proven bool) turn {
	switch {
	case boot == p.now.boot:
		return sameProcess // only the peer knows its number
	case !proven:
		return unproven
	case boot != p.before.boot:
		return newProcess
	case int32(seq-p.before.seq) <= 0 || proof <= p.now.since:
		return lateProcess
	}
	return oldProcess
}

// heard notes a hello of the process boot, whose turn it is.
func (p *processes) heard(now time.Duration, t turn, boot uint64, seq uint32, from string) {
	switch t {
	case sameProcess:
		if int32(seq-p.now.seq) > 0 {
			p.now.seq, p.now.from = seq, from
		}
	case oldProcess, newProcess:
		if t == oldProcess {
			p.duplicate, p.seenAt = true, now
			p.show(p.now.from, from)
		}
		p.now, p.before = process{boot: boot, seq: seq, since: now, from: from}, p.now
	}
}

// show notes from where two processes send. The owner knows where the node was last seen, not where
// a hello came from, so two that send at the same time may seem to be at one place. What was known
// of them before is better then.
func (p *processes) show(a, b string) {
	if a == b && p.before.from != "" {
		b = p.before.from
	}
	if a == b && p.endpoints[0] != p.endpoints[1] {
		return
	}
	p.endpoints = [2]string{min(a, b), max(a, b)}
}

// expire forgets a duplicate that hasn't shown itself lately.
func (p *processes) expire(now time.Duration) (cleared bool) {
	if !p.duplicate || now-p.seenAt < duplicateMemory {
		return false
	}
	p.duplicate, p.endpoints = false, [2]string{}
	return true
}
