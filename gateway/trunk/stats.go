package trunk

// Stats counts what a Pool has and has done since the start.
type Stats struct {
	// Warm connections wait to be taken. Waiting ones were dialled by other nodes
	// and have said nothing yet. InUse are those that somebody has, of both kinds.
	Warm, Waiting, InUse int
	// Dialled and Accepted count connections made, Refused those that other nodes
	// dialled and may not have, or that were too many, Failed dials that failed, Lost
	// warm connections that ended before they were taken, Missed calls of Take that
	// found none, and Stale connections that were in use when the way became
	// too long for them.
	Dialled, Accepted, Refused, Failed, Lost, Missed, Stale uint64
	// Listening says that other nodes can dial this one.
	Listening bool
	// Congestion is the congestion control that sockets get: bbr where the kernel
	// has it, otherwise its default; empty before the first socket.
	Congestion string
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Stats{
		Dialled: p.dialled, Accepted: p.accepted, Refused: p.refused,
		Failed: p.failed, Lost: p.lost, Missed: p.missed, Stale: p.stale,
		Listening: p.listening, Congestion: p.socket.congestionName(),
	}
	for _, k := range p.keepers {
		st.Warm += len(k.idle)
	}
	for c := range p.conns {
		if c.used.Load() {
			st.InUse++
		}
	}
	st.Waiting = len(p.conns) - st.Warm - st.InUse
	return st
}
