// Package legs relays established TCP connections between a near database and a trunk.
//
// A leg is an endpoint of gVisor's that stands in for the far database toward the near one. A
// Relay joins one leg with one trunk to the other gateway, so that loss on the WAN is repaired
// between the gateways while both databases keep their own sequence numbers, windows and
// acknowledgements: what a leg sends has to pass the rule (package rule).
//
//		near database ⇄ flow table ⇄ Relay ⇄ leg (gVisor) ⇄ Relay ⇄ trunk ⇄ the other gateway
//
//	  - stack.go: Stack, which makes the legs and owns the relays; Run watches them
//	  - tap.go: the stack's network interface
//	  - leg.go: making and destroying one leg
//	  - relay.go: Relay, its state and what leaves for the near database
//	  - relay_near.go: segments of the near database; hold.go puts small ones together
//	  - relay_trunk.go: frames of the trunk, both ways; open.go is the first of them
//	  - handback.go, end.go: how a relay ends, in good order or at once, and why
//	  - watch.go: what ends a relay that stands still
//	  - check.go, describe.go: the rule's checker, and what people are shown
package legs
