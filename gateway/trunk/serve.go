package trunk

// Serve says who uses the connection from now on: source is called when Begin may find
// room, after Ready and when it has found none before, and sink when there may be something
// to receive. Both are called by those that move packets, without a lock held, perhaps by
// several at a time, and must not wait; the first call is the caller's. ended is called when
// the connection has ended, by Close as well, with locks held, so that it must call nothing
// here.
func (c *Conn) Serve(source, sink, ended func()) {
	w := c.path
	w.mu.Lock()
	defer w.mu.Unlock()
	c.users.source, c.users.sink, c.users.ended = source, sink, ended
}

// Ready has source called when something may be sent. It may be called from where a source
// or sink takes what it moves, with the locks of that held.
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

// feed has the eager ones put in line what they have to send, and reports whether there is
// any. Pull's goroutine calls it with the lock, which it releases while it calls them.
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
