package trunk

// Serve registers the functions that use the connection. source is called when Begin may find room:
// after Ready, and when there is room after Begin found none. sink is called when there may be
// something to receive. The goroutines that move packets call both, without a lock held and perhaps
// several at a time; they must not block. The caller of Serve makes the first call of each. ended
// is called when the connection has ended, by Close too, with locks held: it must not call this
// package.
func (c *Conn) Serve(source, sink, ended func()) {
	w := c.path
	w.mu.Lock()
	defer w.mu.Unlock()
	c.users.source, c.users.sink, c.users.ended = source, sink, ended
}

// Ready schedules a call of source, when something may be sent. It may be called with the locks
// held of whatever the source reads from or the sink writes to.
func (c *Conn) Ready() {
	c.path.mu.Lock()
	c.ready()
	c.path.unlock()
}

func (c *Conn) ready() {
	if c.users.source == nil || c.line.eager || c.err != nil {
		return
	}
	c.line.eager = true
	w := c.path
	w.waiting.eager = append(w.waiting.eager, c)
	if w.pacing.idle {
		w.pacing.idle, w.pacing.wake = false, true
	}
}

// feed calls the sources of the eager streams, which queue what they have to send, and reports
// whether there were any. Pull's goroutine calls it with the lock held; feed releases it during the
// calls.
func (w *path) feed() bool {
	if list := w.waiting.eager; len(list) > 0 {
		w.waiting.eager, w.waiting.fed = w.waiting.fed[:0], list
		for _, c := range list {
			c.line.eager = false
		}
		w.mu.Unlock()
		for i, c := range list {
			c.users.source()
			list[i] = nil
		}
		w.mu.Lock()
	}
	return w.line.front != nil
}
