// Package hello is what two nodes say to each other inside their link: who
// they are, how far apart, how much is lost, how large a packet may be, and
// where their configurations differ.
//
// It is sans-I/O. A [Peer] is the state machine for one remote node; whoever
// owns the link hands it the payloads that arrive and the passing of time, and
// sends what it returns. There are no sockets, no goroutines and no clocks
// here: time is a duration on any monotonic clock that the caller chooses.
//
// Authentication is WireGuard's: a payload that reaches a Peer came from the
// holder of the peer's key. The peer may still be broken or hostile, so every
// field is bounded, work per message is constant but for one bounded
// comparison of attribute lists, and replies are limited in rate.
//
// Error contract: [Peer.Handle] returns an error for a payload that it could
// not use; the Peer stays usable, the output returned beside the error is to
// be sent all the same, and nothing but a counter has changed unless the error
// is a [*VersionError].
package hello
