package tcptrack

// At returns a Tracker of which only the phase is known.
func At(p Phase) Tracker { return Tracker{phase: p} }

// Phase returns where the connection stands.
func (t *Tracker) Phase() Phase { return t.phase }

// Trusted reports whether the window scales of both ends are known.
func (t *Tracker) Trusted() bool { return t.trusted }

// Exact reports whether the scales and the positions of both ends are known.
func (t *Tracker) Exact() bool { return t.trusted && !t.loose }

// Complete reports whether both ends have sent an acknowledgement and a window.
func (t *Tracker) Complete() bool {
	return t.side[0].acked && t.side[1].acked && t.side[0].opened && t.side[1].opened
}

// SACK reports whether the SYNs of both ends permitted selective acknowledgements.
func (t *Tracker) SACK() bool { return t.side[0].sack && t.side[1].sack }

// ISN returns the sequence number of the SYN of end i; 0 if it was not seen.
func (t *Tracker) ISN(i int) uint32 { return t.side[i].isn }

// End returns the highest sequence number that end i has sent, plus one.
func (t *Tracker) End(i int) uint32 { return t.side[i].end }

// ACK returns the highest acknowledgement of end i; ok is false if none was seen.
func (t *Tracker) ACK(i int) (ack uint32, ok bool) { return t.side[i].ack, t.side[i].acked }

// RightEdge returns the highest right edge of its window that end i has sent; ok is false if none
// was seen. The bounds of the checks have room for error, this one is exact.
func (t *Tracker) RightEdge(i int) (edge uint32, ok bool) { return t.side[i].right, t.side[i].opened }

// Window returns the largest window that end i has offered, scaled, in bytes.
func (t *Tracker) Window(i int) uint32 { return t.side[i].window }

// Scale returns the shift of the windows of end i.
func (t *Tracker) Scale(i int) uint8 { return t.side[i].scale }

// MSS returns the maximum segment size that the SYN of end i offered.
func (t *Tracker) MSS(i int) uint16 { return t.side[i].mss }

// FINAcked reports whether the FIN of end i was sent and acknowledged.
func (t *Tracker) FINAcked(i int) bool { return t.side[i].finAcked }
