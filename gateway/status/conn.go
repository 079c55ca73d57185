package status

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// MaxConns is how many flows one answer holds at most: about 15 MB of snapshot.
const MaxConns = 65536

// ConnSource gives the flows one by one. The consumer only compares and copies between two of them
// and never blocks, so that a flow table may hold a lock of its own during the call.
type ConnSource interface {
	Conns() iter.Seq[Conn]
}

// Opener says on which side a flow was opened.
type Opener string

const (
	// OpenedLocal flows were opened by a host of this node's site.
	OpenedLocal Opener = "local"
	// OpenedRemote flows were opened by a host of the other site.
	OpenedRemote Opener = "remote"
)

// Record says how far a flow's record has come.
type Record string

const (
	// RecordHeld records were acknowledged by the standby: the flow goes on there when this node
	// dies.
	RecordHeld Record = "held"
	// RecordWaiting records have changed since, or the standby is away. A flow can continue from an
	// older one, unless it is new.
	RecordWaiting Record = "waiting"
)

// Conn is one flow. Source is the host that opened it. Out is from this site to the other, In from
// there to here.
type Conn struct {
	// Proto is tcp, udp, icmp (of either IP version), or the protocol's number.
	Proto       string     `json:"proto"`
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
	// Ports are zero, and left out, for protocols without.
	SourcePort      uint16 `json:"source_port,omitzero"`
	DestinationPort uint16 `json:"destination_port,omitzero"`
	OpenedBy        Opener `json:"opened_by"`
	// Site is the other site.
	Site string `json:"site"`
	// Mode is how the flow travels now: raw or relayed.
	Mode string `json:"mode"`
	// Why explains that; empty for what is never relayed, which is all but TCP.
	Why string `json:"why"`
	// Relay tells how a relayed connection fares; nil for a raw one.
	Relay *ConnRelay `json:"relay,omitempty"`
	// Standby says whether the standby has the flow's record as it is now; empty for flows without,
	// and where there is no standby.
	Standby Record `json:"standby,omitempty"`
	// State is the flow table's word, like established.
	State string `json:"state"`
	// Rule is the policy rule that allowed the flow, and RulePos the file:line where it stands.
	Rule    string `json:"rule"`
	RulePos string `json:"rule_pos"`
	// Bytes are of whole IP packets.
	BytesOut   uint64 `json:"bytes_out"`
	BytesIn    uint64 `json:"bytes_in"`
	PacketsOut uint64 `json:"packets_out"`
	PacketsIn  uint64 `json:"packets_in"`
	// Age is the time since the flow was opened (or carried on from a record that knew no more),
	// Idle since its last packet.
	Age  Seconds `json:"age_seconds"`
	Idle Seconds `json:"idle_seconds"`
}

// ConnRelay tells which of near database, link and far database is slow.
type ConnRelay struct {
	// NearRTT is the round trip between this node and the database on its side, LinkRTT that to the
	// other gateway.
	NearRTT Seconds `json:"near_rtt_seconds"`
	LinkRTT Seconds `json:"link_rtt_seconds"`
	// Retransmits count segments sent again, between this node and the database on its side in both
	// directions, and by the trunk.
	NearRetransmits uint64 `json:"near_retransmits"`
	LinkRetransmits uint64 `json:"link_retransmits"`
	// WaitingOut are bytes of the near database that the far one has not acknowledged, WaitingIn
	// those of the far one that have come here and the near one has not acknowledged.
	WaitingOut uint64 `json:"waiting_out_bytes"`
	WaitingIn  uint64 `json:"waiting_in_bytes"`
}

// Bytes is what the flow carried both ways.
func (c Conn) Bytes() uint64 { return c.BytesOut + c.BytesIn }

// Order is what Select sorts by.
type Order string

const (
	// ByBytes has the flow that carried most first. The default.
	ByBytes Order = "bytes"
	// ByAge has the oldest flow first.
	ByAge Order = "age"
)

// ParseOrder reads an order's word; the empty one is the default.
func ParseOrder(s string) (Order, error) {
	switch o := Order(s); o {
	case "":
		return ByBytes, nil
	case ByBytes, ByAge:
		return o, nil
	default:
		return "", fmt.Errorf("unknown order %q: use bytes or age", s)
	}
}

// compare is negative when a comes before b. The 5-tuple decides between equals, so that a
// repainted table doesn't jump.
func (o Order) compare(a, b *Conn) int {
	var first int
	if o == ByAge {
		first = cmp.Compare(b.Age, a.Age)
	} else {
		first = cmp.Compare(b.Bytes(), a.Bytes())
	}
	return cmp.Or(first, a.Source.Compare(b.Source), cmp.Compare(a.SourcePort, b.SourcePort),
		a.Destination.Compare(b.Destination), cmp.Compare(a.DestinationPort, b.DestinationPort), cmp.Compare(a.Proto, b.Proto))
}

// Query says which flows are wanted.
type Query struct {
	Order Order
	// Limit is the number of flows wanted; zero, or more than MaxConns, is MaxConns.
	Limit int
}

// ConnList is the answer to a Query: the first flows in its order, and how many there are
// altogether.
type ConnList struct {
	Total int    `json:"total"`
	Conns []Conn `json:"conns"`
}

// Select picks the first flows in the query's order. It holds no more than the limit at any time,
// however many there are.
func Select(conns iter.Seq[Conn], q Query) ConnList {
	limit := q.Limit
	if limit <= 0 || limit > MaxConns {
		limit = MaxConns
	}
	list := ConnList{Conns: []Conn{}}
	for c := range conns {
		list.Total++
		switch {
		case len(list.Conns) < limit:
			list.Conns = append(list.Conns, c)
			if len(list.Conns) == limit {
				for i := limit/2 - 1; i >= 0; i-- {
					q.Order.siftDown(list.Conns, i)
				}
			}
		case q.Order.compare(&c, &list.Conns[0]) < 0:
			list.Conns[0] = c
			q.Order.siftDown(list.Conns, 0)
		}
	}
	slices.SortFunc(list.Conns, func(a, b Conn) int { return q.Order.compare(&a, &b) })
	return list
}

// siftDown restores the heap below i. The root is the flow to give up first. (container/heap would
// box each flow.)
func (o Order) siftDown(h []Conn, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && o.compare(&h[right], &h[child]) > 0 {
			child = right
		}
		if o.compare(&h[child], &h[i]) <= 0 {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
