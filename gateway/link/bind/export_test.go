package bind

// Know makes a session index one of the Bind's own, of its first peer.
func (b *Bind) Know(index uint32) { b.own.add(index, 0) }
