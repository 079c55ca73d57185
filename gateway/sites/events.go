package sites

import (
	"context"
	"slices"
	"sync"
)

// Kind is what happened.
type Kind uint8

// The events. Those without a node concern a site, or this node.
const (
	// Established: the link to a node is up for the first time.
	Established Kind = iota
	// Reachable: another site's node answers hellos.
	Reachable
	// Changed: the link to another site's node is up, and something about it is new.
	Changed
	// Lost: another site's node is out of reach.
	Lost
	// Restarted: another site's node has forgotten what it was part of.
	Restarted
	// Moved: a node, and no other, carries the site.
	Moved
	// Wake: wake senders with bytes in flight toward the site.
	Wake
	// Promoted and Demoted: this node carries its site, or leaves it to its sibling.
	Promoted
	Demoted
	// SiblingAgreed and SiblingRefused: the sibling's configuration permits the pair, or does not.
	SiblingAgreed
	SiblingRefused
)

func (k Kind) String() string {
	return [...]string{
		"established", "reachable", "changed", "lost", "restarted", "moved", "wake", "promoted", "demoted",
		"sibling agreed", "sibling refused",
	}[k]
}

// Event is something that others act on.
type Event struct {
	Kind       Kind
	Site, Node string
}

// Listener acts on events. Run calls it, one event at a time and in order, without a lock of the
// Board. It may block: neither the link nor the election waits for it.
type Listener interface {
	Notice(e Event)
}

// queue holds events between those who post, who never wait, and the listeners. An event that
// waits already moves to the end: so the queue is as long as there are kinds and nodes at most, and
// what happened last is delivered last.
type queue struct {
	bell      chan struct{} // holds a token when events wait
	listeners []Listener    // registered before run

	mu      sync.Mutex
	waiting []Event
}

func newQueue() queue { return queue{bell: make(chan struct{}, 1)} }

func (q *queue) post(e Event) {
	q.mu.Lock()
	if i := slices.Index(q.waiting, e); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.waiting = append(q.waiting, e)
	q.mu.Unlock()
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

func (q *queue) next() (e Event, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return e, false
	}
	e = q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return e, true
}

func (q *queue) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.bell:
		}
		for e, ok := q.next(); ok && ctx.Err() == nil; e, ok = q.next() {
			for _, l := range q.listeners {
				l.Notice(e)
			}
		}
	}
}
