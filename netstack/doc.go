// Package netstack gives a node a TCP/IP stack in user space, on the node's own addresses, for
// the control streams between gateways: records, questions and pings. The stack depends on no
// firewall and no socket of the host's kernel, and ends with the process.
//
//   - host.go: Host, its packets in and out
//   - conn.go, listener.go: net.Conn and net.Listener on it
//   - shares.go: what one other node may use of it
//
// Package legs has another stack: the endpoints that relay databases' connections. These two are
// the only importers of gVisor. Package wire reads and writes packets for the whole gateway.
package netstack
