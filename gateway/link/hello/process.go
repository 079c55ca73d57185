package hello

import "time"

// duplicateMemory is how long a duplicate is shown after it was last seen.
const duplicateMemory = time.Minute

// processes watches which process of the peer speaks. Each names itself by a
// random number. A number that is replaced by another is a restart; one that
// comes back after another has spoken is a second process with the same key.
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

// A turn says who speaks, compared to the hello before.
type turn uint8

const (
	sameProcess turn = iota
	newProcess       // one never heard
	oldProcess       // the one before the present one, which is a duplicate then
	lateProcess      // the one before, and only its last word
)

// heard notes a hello of the process boot.
func (p *processes) heard(now time.Duration, boot uint64, seq uint32, from string, interval time.Duration) turn {
	switch boot {
	case p.now.boot:
		if int32(seq-p.now.seq) > 0 {
			p.now.seq, p.now.from = seq, from
		}
		return sameProcess
	case p.before.boot:
		// A packet of the former process that took the longer way is no
		// second process: nothing stays on the way for so long.
		if int32(seq-p.before.seq) <= 0 || now-p.now.since < interval/2 {
			return lateProcess
		}
		p.duplicate, p.seenAt = true, now
		p.endpoints = [2]string{min(p.now.from, from), max(p.now.from, from)}
		p.now, p.before = process{boot: boot, seq: seq, since: now, from: from}, p.now
		return oldProcess
	}
	p.before = p.now
	p.now = process{boot: boot, seq: seq, since: now, from: from}
	return newProcess
}

// expire forgets a duplicate that hasn't shown itself lately.
func (p *processes) expire(now time.Duration) (cleared bool) {
	if !p.duplicate || now-p.seenAt < duplicateMemory {
		return false
	}
	p.duplicate, p.endpoints = false, [2]string{}
	return true
}
