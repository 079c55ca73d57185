// Package ha decides which node of a site is active, and keeps the standby's
// records equal to the active node's. It knows nothing of TCP, WireGuard or
// netlink.
//
// Two state machines live here, both sans-I/O: no sockets, no goroutines, no
// clocks. Whoever owns them hands over the payloads that arrive and the passing
// of time, and carries out what they return, in its order.
//
//   - [Machine] elects. Each node has one. Siblings hear each other's
//     heartbeats; the nodes of the linked sites hear the active one's too, so that
//     they can say whether it is the sibling that died or the path to it.
//   - [Replicator] copies opaque records from the active node to its sibling.
//
// # Claims
//
// A node becomes active by a [Claim]: an epoch that is higher than any it has
// heard of. The highest claim of a site is right, equal epochs being ordered by
// key. A claim counts when it comes from the tunnel of the node that it names;
// told by others it is hearsay, which lets a node that starts or was cut off
// learn what happened, and moves no traffic.
//
// Two active nodes at once do no harm, since a gateway only repeats. So no quorum
// is needed, and whenever siblings or witnesses meet, the lower claim yields
// within a heartbeat.
//
// # Epochs and clocks
//
// An epoch is max(highest seen + 1, milliseconds since 1970), so that it rises
// even when a node has lost its state. Nothing else reads the wall clock. Epochs
// further ahead than [MaxAhead] of this node's wall clock and of the highest epoch
// seen are refused and reported, hearsay ones beyond half of that: no site can
// push another's epochs to where its own claims would be refused. A node whose
// clock is behind by more than that hears claims again as soon as the clock is
// right, since each heartbeat carries them.
//
// # Trust
//
// Payloads were authenticated by the tunnel that they came from. Their sender may
// still be broken or hostile, so every message has a fixed size, costs a constant
// amount of work and at most one reply to its sender.
package ha
