package trunk

import "net/netip"

// maxStreams bounds the trunks between two nodes. A relayed connection costs two endpoints
// in netstack, too, so the memory is gone before.
const maxStreams = 8192

// Config is what a Pool is made of.
type Config struct {
	// Self is the node's own address, which trunks come from and lead to.
	Self netip.Addr
	// Peers are the nodes that may begin connections at any time: one that knows that this
	// node carries its site may do so before this one knows it.
	Peers []netip.Addr
	// Wake has Pull called soon. It does not block.
	Wake func()
	// Accept is given a connection that another node has begun, in a goroutine of its own.
	// It has to Close or Finish it, and to return when it finds the connection closed.
	Accept func(*Conn)
}
