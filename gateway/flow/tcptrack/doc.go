// Package tcptrack follows one TCP connection from the middle: it sees the segments of both
// directions, judges each one, and never refuses what a correct TCP sends. It does no I/O, keeps no
// clock, allocates nothing, and is not safe for concurrent use: the caller holds a lock.
//
//	        SYN             SYN-ACK                ACK of the opener
//	None ────────▶ SynSent ─────────▶ SynReceived ─────────────────▶ Established
//	                                                                     │ FIN of one end
//	                                                                     ▼
//	          TimeWait ◀───────────────── Closing ◀────────────────── HalfClosed
//	                    both FINs are               FIN of the other
//	                    acknowledged
//
//	any but TimeWait ── RST ──▶ Reset ── a segment, after a doubted RST ──▶ the phase before
//	TimeWait, Reset  ── new SYN: the caller opens a new Tracker
//
// A FIN moves a connection on from SynReceived too. Both ends may open at once (RFC 9293 section
// 3.5): the second SYN then takes the place of the SYN-ACK.
//
// A Tracker knows the positions exactly (Exact) after both SYNs. After Resume it knows them from a
// record and is loose: everything near the record passes until what both ends send fits together.
// tracker.go holds the phases and RST, open.go the SYNs, window.go the bounds, resume.go records.
package tcptrack
