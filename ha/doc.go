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
// key. A claim counts when it comes from the tunnel of the node that it names.
// Carried by a node of another site it moves no traffic; it lets a node of the
// claim's own site that starts or was cut off learn what happened, and only with
// the tag of a node of that site.
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
// Payloads were authenticated by the tunnel that they came from. Their sender may
// still be broken or hostile, so every message has a fixed size, costs a constant
// amount of work and at most one reply to its sender.
//
// A node trusts its sibling. It trusts no witness: what one carries from the sibling
// counts only with a tag ([Authenticator]), and a proof that the sibling lives counts
// only while the sibling's clock, or this node's own one echoed by it, shows that it
// is fresh. A witness can withhold what it should carry, and call a living node
// silent; one honest witness makes up for that.
package ha
