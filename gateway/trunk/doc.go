// Package trunk keeps the TCP connections between nodes, inside the tunnel, in
// which relayed connections cross from one gateway to the other: one trunk for
// one connection, so that none waits for another's lost packet. They are sockets
// of the kernel, between the nodes' own addresses, because the kernel has bbr and
// sees to loss on the link alone.
//
// What lives here, one idea a file:
//
//   - config.go: what a Pool is made of, and its limits.
//   - pool.go: the Pool: lifetime, Take, which nodes it keeps connections to.
//   - keeper.go: the warm connections to one node: dialled ahead, as many as
//     are asked for, replaced when they are lost.
//   - listen.go: connections that other nodes have dialled.
//   - socket.go: what is asked of the kernel for each socket.
//   - conn.go, receive.go: a connection: frames out and in, and its two ends,
//     Close and Finish.
//   - path.go: what the kernel knows of the way.
//   - fresh.go: a connection that is taken after it has waited.
//   - stale.go: a connection in use for which the way has become too long.
//   - share.go, pace.go: the trunks to one node looked at from time to time, and
//     paced together, so that they are fair and keep no queue.
//   - stats.go: a snapshot of the Pool.
package trunk
