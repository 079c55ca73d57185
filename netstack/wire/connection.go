package wire

import "net/netip"

// LeastMSS is the smallest maximum segment size, in bytes, with which a connection is relayed:
// 48 bytes of payload behind 40 bytes of options. Smaller ones cost the sender of the segments
// more than they carry (CVE-2019-11479; Linux has the same bound as TCP_MIN_SND_MSS).
const LeastMSS = 88

// Position is what one end of a TCP connection has sent, as seen on the path.
type Position struct {
	// End is the highest sequence number that it has sent, plus one: its SND.NXT. Fin
	// reports that the last one is that of its FIN.
	End uint32
	Fin bool
	// Ack is its highest acknowledgement, its RCV.NXT as far as seen.
	Ack uint32
	// Edge is the highest right edge of its window: the other end may send what
	// precedes it.
	Edge uint32
	// Scale shifts its windows (RFC 7323), MSS is the largest segment that it accepts.
	Scale uint8
	MSS   uint16
}

// Connection is what the middle knows of an established TCP connection.
type Connection struct {
	// Near is the end on this node's side.
	Near, Far         netip.AddrPort
	NearSaid, FarSaid Position
	// SACK reports that both ends permit selective acknowledgements.
	SACK bool
}
