package wire

// Gateways exchange control packets between their nodes' own addresses, inside the tunnel. These
// ports and [ProtoTrunk] are reserved for that: a packet of a host between two nodes' addresses
// must not use them, or the receiver would take the host for a gateway.
const (
	FirstNodePort = 9771
	LastNodePort  = 9775
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
