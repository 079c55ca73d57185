// Package bind is gw's conn.Bind: the UDP sockets under wireguard-go.
//
// What lives here, one idea a file:
//
//   - bind.go: the Bind and its Config; open, close, what wireguard-go calls.
//   - socket.go, mmsg.go, cmsg.go: Linux sockets, batched system calls, and
//     their control messages (UDP GSO and GRO, the sticky source address).
//   - send.go, receive.go, scatter.go: the two ways of a datagram through a
//     socket.
//   - moderate.go, ready.go: when the receiver lets datagrams gather, and how
//     nobody is woken meanwhile.
//   - endpoint.go: the address of a peer as wireguard-go holds it.
//   - message.go, handshake.go, echo.go: which handshake messages may pass,
//     and the quick repetition of the ones that got lost.
//   - nudge.go: how a restarted responder that may not dial tells the dialler
//     that it has lost its keys.
//   - gate.go, intake.go: the bounds on the packets inside wireguard-go, on their
//     way out and in.
//   - stats.go: counters, and the reason for each datagram that was dropped.
//
// handshake.go, echo.go and nudge.go do no I/O and read no clock.
package bind
