// Package udp carries WireGuard messages as UDP datagrams: the first implementation of
// bind.Carrier.
//
//   - carrier.go: the Carrier; open, close, what a Bind calls.
//   - socket.go: Linux sockets, batched system calls, and their control messages (UDP GSO and
//     GRO, the sticky source address).
//   - send.go, receive.go, scatter.go: the path of a datagram out of a socket and into one.
//   - moderate.go, ready.go: when the receiver lets datagrams gather, and how no thread is woken
//     meanwhile.
//   - endpoint.go: the address of a peer as wireguard-go holds it.
//   - stats.go: counters.
//
// No file here knows a rule about WireGuard messages.
package udp
