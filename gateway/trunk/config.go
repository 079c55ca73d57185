package trunk

import (
	"net/netip"

	"github.com/hashicorp/go-hclog"
)

// Port is where every node listens for trunks. It is the same on all, since it is
// only reachable inside the tunnel.
const Port = 9774

const (
	// DefaultWarm is how many connections to a node wait to be taken. Dialling one
	// takes a round trip, and a database's pool opens about so many at once.
	DefaultWarm = 8
	// MaxWarm is how many wait at most after many were taken at once.
	MaxWarm = 64
	// maxAccepted bounds the connections that other nodes have dialled. A relayed
	// one costs two endpoints in netstack, too, so the memory is gone before.
	maxAccepted = 4096
)

// Config is what a Pool is made of.
type Config struct {
	// Self is the node's own address, which trunks come from and lead to.
	Self netip.Addr
	// Port is where this and the other nodes listen; 0 means Port.
	Port uint16
	// Device is the TUN. Sockets are bound to it, so that no host of the LAN reaches
	// the listener, and no trunk leaves by another way. Empty binds to none.
	Device string
	// Peers are the addresses of the nodes from which connections are accepted.
	// Inside the tunnel WireGuard vouches for a source address.
	Peers []netip.Addr
	// Accept is given a connection that another node has dialled once its first
	// frame arrives, in a goroutine of its own. It has to Close or Finish it, and to
	// return when it finds the connection closed.
	Accept func(*Conn)
	// Stale is given a connection in use which the kernel won't fill for some seconds
	// from now on, since the way has become much longer. Its user had better Close it,
	// and take another soon. Nil leaves it at that.
	Stale func(*Conn)
	// Warm is how many connections to each node wait to be taken; 0 means DefaultWarm.
	Warm   int
	Logger hclog.Logger // nil logs nothing
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = Port
	}
	if c.Warm <= 0 {
		c.Warm = DefaultWarm
	}
	c.Warm = min(c.Warm, MaxWarm)
	if c.Stale == nil {
		c.Stale = func(*Conn) {}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	c.Logger = c.Logger.Named("trunk")
	return c
}
