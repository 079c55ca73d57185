package trunk

import "net/netip"

const (
	// maxStreams bounds the trunks between two nodes, and maxGuests those of them that the
	// other node has begun and this one has not admitted yet.
	maxStreams, maxGuests = 8192, 1024
)

// Config is what a Pool is made of.
type Config struct {
	// Self is the node's own address, which trunks come from and lead to.
	Self netip.Addr
	// Peers are the nodes that may begin connections at any time: one that knows that this
	// node carries its site may do so before this one knows it.
	Peers []netip.Addr
	// Memory bounds what the trunks hold, in bytes; 0 is DefaultMemory.
	Memory int64
	// Wake has Pull called soon. It does not block.
	Wake func()
	// Accept is given a connection that another node has begun, in a goroutine of its own,
	// when its first frame is there. It has to Admit, Close or Finish it soon, to Close or Finish
	// it at some time, and to return when it finds the connection closed.
	Accept func(*Conn)
}
