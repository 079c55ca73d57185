// Package hello is the protocol by which two nodes learn about each other inside their link: who
// they are, the round trip, the loss, the path MTU, and where their configurations differ.
//
// It is sans-I/O. A [Peer] is the state machine for one remote node. The owner of the link passes
// it the payloads that arrive and the time, and sends what it returns. There are no sockets, no
// goroutines and no clocks here: time is a duration on any monotonic clock that the caller chooses.
//
// WireGuard authenticates the peer's node, and not the process: a host that gets a packet into the
// tunnel with the node's address is authenticated as well. So a hello counts only with a proof that
// its sender receives this node's hellos (proof.go). The peer itself may be broken or hostile, too.
// Every field is bounded, work per message is constant but for one bounded comparison of attribute
// lists, and replies, restarts and changes are limited in rate.
//
// Error contract: [Peer.Handle] returns an error for a payload that it could not use. The Peer
// stays usable and the output beside the error must be sent. Nothing but a counter has changed
// unless the error is a [*VersionError].
package hello
