package trunk

import "time"

const (
	// openWithin is how long a stream that the other node has begun may take until this node
	// has admitted it.
	openWithin = 5 * time.Second
	// endWithin is how long a stream that this node has finished or closed waits for an
	// acknowledgement of something new.
	endWithin = 10 * time.Second
	// stuckAfter is how long the first byte that is not acknowledged may stay the same while
	// what lies behind it is acknowledged.
	stuckAfter = 10 * time.Second
)

// deadlines is a list of streams in the order of their deadlines, which all are the same time
// after the stream was added: adding and removing one costs the same however many there are.
type deadlines struct{ front, back *Conn }

// place is where a stream stands among deadlines.
type place struct {
	list       *deadlines // nil if it is in none
	at         time.Duration
	prev, next *Conn
}

// add adds a stream with a deadline; 0 is one that start sets.
func (l *deadlines) add(c *Conn, at time.Duration) {
	c.unlist()
	c.due = place{list: l, at: at, prev: l.back}
	if l.back == nil {
		l.front = c
	} else {
		l.back.due.next = c
	}
	l.back = c
}

// unlist removes the stream from the list that it is in.
func (c *Conn) unlist() {
	d := &c.due
	l := d.list
	if l == nil {
		return
	}
	if d.prev == nil {
		l.front = d.next
	} else {
		d.prev.due.next = d.next
	}
	if d.next == nil {
		l.back = d.prev
	} else {
		d.next.due.prev = d.prev
	}
	c.due = place{}
}

// start sets the deadlines of those that were added without one.
func (l *deadlines) start(at time.Duration) {
	for c := l.back; c != nil && c.due.at == 0; c = c.due.prev {
		c.due.at = at
	}
}

// next is the first deadline; 0 is none.
func (l *deadlines) next() time.Duration {
	if l.front == nil {
		return 0
	}
	return l.front.due.at
}

// expire ends the streams whose deadline has passed, without waiting for the other node to
// acknowledge that, and returns the next deadline; 0 is none.
func (w *path) expire(now time.Duration) time.Duration {
	for c := w.opening.front; c != nil && c.due.at <= now; c = w.opening.front {
		w.abandon(c)
	}
	w.ending.start(now + endWithin)
	for c := w.ending.front; c != nil && c.due.at <= now; c = w.ending.front {
		if at := c.out.unaAt + endWithin; c.out.fin && at > now {
			w.ending.add(c, at) // out of order by less than endWithin
			continue
		}
		w.abandon(c)
	}
	return earliest(w.opening.next(), w.ending.next())
}

// abandon ends a stream whose other end does not do its part, and keeps nothing of it.
func (w *path) abandon(c *Conn) {
	c.asking = false
	c.fail(errLate)
	c.closed = true
	w.forget(c)
	w.refuse(c.id)
	w.pool.abandoned.Add(1)
}
