// Package link connects this node to the nodes of other sites: wireguard-go's device
// between a tun.Device that is the gateway's packet path and the bind package's
// UDP sockets, with the hello package's conversation inside each tunnel.
//
// What lives here, one idea a file:
//
//   - link.go: Config, New, and Run with the order of starting and closing.
//   - register.go: what other parts register before Run: datagrams, streams, trunks.
//   - adapter.go: the tun.Device under wireguard-go, which takes the control
//     packets out of the stream and bounds what is in flight.
//   - loop.go: the one goroutine that drives all peers.
//   - peer.go: one peer: its hello, and what OnChange reports of it.
//   - dial.go, resolve.go: who dials, when, and at which address.
//   - uapi.go: wireguard-go's configuration protocol.
//   - clock.go: a wall clock that runs behind.
//   - snapshot.go: what status shows.
//
// Only the initiator's side of a link dials. The other side's Bind drops the
// initiations that wireguard-go makes by itself after a silence of 15 s.
package link
