// Package bind is gw's conn.Bind: the rules about WireGuard messages, over a Carrier that sends
// and receives them.
//
// One idea a file:
//
//   - bind.go, receive.go: the Bind; what wireguard-go calls, and the rules' order on the path of a
//     datagram out and in.
//   - carrier.go: what a carrier must provide. Package udp is the first.
//   - message.go, handshake.go, echo.go: which handshake messages may pass,
//     and the quick repetition of the ones that got lost.
//   - nudge.go: how a restarted responder that may not dial notifies the dialler
//     that it has lost its keys.
//   - gate.go, intake.go: the bounds on the packets inside wireguard-go, on their
//     way out and in.
//   - stats.go: counters, and the reason for each datagram that was dropped.
//
// Only the Carrier does I/O. handshake.go, echo.go and nudge.go read no clock.
//
// # A second carrier
//
// A carrier over another protocol implements Carrier and touches no rule; package carriertest has
// the contract as a test. Outside this package, gateway/link still assumes UDP at these places:
//
//   - Endpoints are IP:port without a scheme, in configurations and in wireguard-go's protocol.
//   - The MTU search of gateway/link/hello sends datagrams of growing size and expects the longest
//     ones to get lost. A stream has no such limit: its carrier needs a fixed MTU.
//   - The longest datagram is 65,527 bytes, less than wireguard-go's buffers; see stampSize.
//   - gateway/link/knock.go and refusal.go detect a dead peer by ICMP port unreachable. A stream
//     reports a reset instead.
//   - Link calls Pending and Moderate of udp.Carrier, which other carriers may not need.
package bind
