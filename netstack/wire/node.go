package wire

// Gateways exchange control packets between their nodes' own addresses, inside the tunnel. These
// ports and [ProtoTrunk] are reserved for that: a packet of a host between two nodes' addresses
// must not use them, or the receiver would take the host for a gateway.
const (
	// ControlPort is for hello over UDP, and over TCP for the flow records that one gateway fetches
	// from another.
	ControlPort = 9771
	// HAPort is for the election and the replication of a pair, over UDP.
	HAPort = 9772
	// StrayPort is for packets, over UDP, that the LAN sent to the node of a pair that is not
	// active: it passes them on to its sibling.
	StrayPort = 9773
	// AskPort is for questions that one gateway asks another, over TCP.
	AskPort = 9775

	FirstNodePort = ControlPort
	LastNodePort  = AskPort
)

// ReservedForNodes reports whether only a gateway may send p from one node's own address to
// another's. p is no fragment.
func (p *Packet) ReservedForNodes() bool {
	switch p.Proto {
	case ProtoTrunk:
		return true
	case ProtoUDP, ProtoTCP:
		return nodePort(p.SrcPort) || nodePort(p.DstPort)
	}
	return false
}

func nodePort(port uint16) bool { return port >= FirstNodePort && port <= LastNodePort }
