package pair

import (
	"sync"

	"github.com/onewaylink/gw/ha"
)

// maxChanges bounds the keys that wait for the loop, in bytes. Beyond it they are
// forgotten, and the Replicator's digest finds and mends what that leaves out.
const maxChanges = 4 << 20

// Changes collects the keys of records that the data path has made, changed or removed, for the
// Replicator. It is made before the flow table, which writes to it, and before the Pair, which
// reads it.
type Changes struct {
	wake chan struct{} // holds a token when keys wait

	mu   sync.Mutex // guards the fields below
	keys []byte     // each with its length in front
	lost uint64
}

// NewChanges returns an empty Changes.
func NewChanges() *Changes { return &Changes{wake: make(chan struct{}, 1)} }

// Put notes that a record was made, changed or removed. The data path calls it. It doesn't block
// and keeps nothing of key.
func (c *Changes) Put(key []byte) {
	if len(key) > ha.MaxKey {
		return
	}
	c.mu.Lock()
	if len(c.keys)+len(key) >= maxChanges {
		c.lost++
		c.mu.Unlock()
		return
	}
	c.keys = append(append(c.keys, byte(len(key))), key...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns what was collected; spare is memory for the next.
func (c *Changes) take(spare []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := c.keys
	c.keys = spare[:0]
	return keys
}

// each calls fn for each key that waits.
func (c *Changes) each(fn func(key []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	eachKey(c.keys, fn)
}

// eachKey calls fn for each of keys, which have their lengths in front.
func eachKey(keys []byte, fn func(key []byte)) {
	for len(keys) > 0 {
		n := int(keys[0])
		fn(keys[1 : 1+n])
		keys = keys[1+n:]
	}
}

// sendChanges passes the keys of changed records to the Replicator.
func (p *Pair) sendChanges() {
	if p.sib == "" {
		return
	}
	keys := p.cfg.Changes.take(p.seen.spare)
	eachKey(keys, func(key []byte) { p.send(p.r.Changed(p.now(), key)) })
	p.seen.spare = keys
}

// Replicated returns a function that reports whether the standby has acknowledged the
// record with a key as it was when Replicated was called. It is nil where that is no
// question: without a sibling, and on the standby itself.
func (p *Pair) Replicated() func(key []byte) bool {
	if p.sib == "" || !p.leads.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.r.InSync() {
		return func([]byte) bool { return false }
	}
	waiting := map[string]struct{}{}
	for k := range p.r.Unacknowledged() {
		waiting[k] = struct{}{}
	}
	p.cfg.Changes.each(func(key []byte) { waiting[string(key)] = struct{}{} })
	return func(key []byte) bool {
		_, is := waiting[string(key)]
		return !is
	}
}

// knowRecords passes the keys of the records restored at the start to the Replicator.
func (p *Pair) knowRecords() {
	if p.sib == "" {
		return
	}
	var keys []byte
	p.cfg.Flows.Records(func(k, _ []byte) bool {
		keys = append(append(keys, byte(len(k))), k...)
		return true
	})
	eachKey(keys, func(key []byte) { p.send(p.r.Changed(p.now(), key)) })
}

// store is the flow table as the Replicator sees it.
type store Pair

var _ ha.Store = (*store)(nil)

func (s *store) Value(b, key []byte) ([]byte, bool) { return s.cfg.Flows.Record(b, key) }
func (s *store) Apply(key, value []byte)            { s.cfg.Flows.Replace(key, value) }
func (s *store) Remove(key []byte)                  { s.cfg.Flows.Remove(key) }
