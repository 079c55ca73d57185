// Package ha decides which node of a site is active, and keeps the standby's
// records equal to the active node's. It knows nothing of TCP, WireGuard or
// netlink.
//
// Two state machines live here, both sans-I/O: no sockets, no goroutines, no
// clocks. The owner passes in the payloads that arrive and the time, and carries out
// what they return, in order.
//
//   - [Machine] elects. Each node has one. Siblings send each other heartbeats; the
//     active one also sends them to the nodes of the linked sites, which can then
//     report whether the sibling has died or the path to it.
//   - [Replicator] copies opaque records from the active node to its sibling.
//
// # Claims
//
// A node becomes active by a [Claim]: an epoch higher than any that it has seen. The
// highest claim of a site is valid; equal epochs are ordered by key. A claim counts when
// it arrives through the tunnel of the node that it names. A claim that a node of another
// site carries moves no traffic; it informs a node of the claim's own site that starts or
// was cut off, and only with the tag of a node of that site.
//
// Two active nodes at once do no harm, since a gateway only repeats. So no quorum
// is needed, and whenever siblings or witnesses meet, the lower claim yields
// within a heartbeat.
//
// # Epochs and clocks
//
// An epoch is max(highest seen + 1, milliseconds since 1970), so that it rises
// even when a node has lost its state. Nothing else reads the wall clock. An epoch
// further ahead than [MaxAhead] of this node's wall clock is refused and reported.
// The clock alone decides, so no claim moves the bound for the next one. A node
// whose clock is behind by more than that accepts claims again as soon as the clock
// is right, since each heartbeat carries them. Another site's claim lapses when its
// node has not led for a few seconds: then the other node's lower claim counts.
//
// # Trust
//
// The tunnel authenticates the sender of a payload. The sender may still be broken or
// hostile, so every message has a fixed size, costs a constant amount of work and at most
// one reply to its sender.
//
// A node trusts its sibling. It trusts no witness: what one carries from the sibling
// counts only with a tag ([Authenticator]), and a proof that the sibling lives counts
// only while the sibling's clock, or this node's own one echoed by it, shows that it
// is fresh. A witness can withhold what it should carry, and report a living node
// silent; one honest witness compensates for that.
package ha
