// Package trunk carries relayed connections between nodes. A trunk is a stream of frames,
// one for each connection; all trunks between two nodes go in the same packets, inside the
// tunnel, and nothing of them passes the kernel or the flow table. A lost packet holds up
// only the trunks that had something in it.
//
// A packet's number is never used twice, so that an acknowledgement always tells which
// transmission has arrived, and how long it took (RFC 9002 section 2 has the idea); what a
// lost one carried goes again in another. One congestion control bounds what all trunks to a
// node send together, and they take turns: they are fair to each other, and keep no queue.
//
// Package link pulls packets when it may send, hands over those that come, and is woken
// when there is more; the package has no sockets. What a path does is told the time, so that
// tests run it in a time of their own.
//
// What lives here, one idea a file:
//
//   - config.go, pool.go: the Pool: lifetime, the paths to other nodes, what link calls.
//   - snapshot.go: snapshots.
//   - path.go: all that goes between two nodes: its streams, and whose turn it is.
//   - send.go, take.go: packets out, when and with what; packets in, and sessions.
//   - conn.go, receive.go: a trunk: frames into bytes of a stream, what becomes of those, and
//     its two ends, Close and Finish; bytes that have come back into frames.
//   - serve.go: calls the user of a trunk when there is something to do.
//   - compose.go: a frame whose payload is written to where it is sent from.
//   - packet.go: packets as they are on the wire.
//   - flight.go: packets that are under way: round trips, rates, loss.
//   - acks.go: packets that have come: when to tell of them.
//   - bbr.go, strain.go: what the path carries and how long it is, and so how much to send.
//   - ranges.go, buffer.go: sets of numbers, and the bytes of a stream.
package trunk
