package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/link/hello"
)

// Path is the gateway's packet path between the link and the host. Read and
// Write have the semantics of wireguard-go's tun.Device. They may run
// concurrently with each other, and Write with itself: each peer has a
// goroutine that writes.
type Path interface {
	// Read reads up to len(bufs) packets, each from offset on. An error ends
	// the link.
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	// Write writes packets from peers to the host, each from offset on.
	Write(bufs [][]byte, offset int) (int, error)
	// Wake makes a blocked Read return at once, or the next one if none is
	// blocked, with what there is, which may be nothing.
	Wake()
}

// Streams receives the TCP packets of the control ports, whole IP packets. Inject
// copies what it keeps and doesn't block.
type Streams interface {
	Inject(pkt []byte)
}

// Trunks speaks to its like on other nodes in IP packets of a protocol of their own,
// wire.ProtoTrunk, between the nodes' own addresses inside the tunnel.
type Trunks interface {
	// Pull writes whole packets to be sent now into bufs, each from offset on, and returns
	// how many; it may be none. One goroutine calls it, also after Path.Wake.
	Pull(bufs [][]byte, sizes []int, offset int) int
	// Deliver receives the payload of a packet from another node, and Flush ends a batch of
	// them. They don't block, and keep nothing of it.
	Deliver(node netip.Addr, payload []byte)
	Flush()
}

// Resolver finds the addresses of a host; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Self is this node.
type Self struct {
	Site, Node string
	Addresses  []netip.Addr // its own inside the tunnel, at most one a family
}

// Peer is another node: of another site, or the sibling.
type Peer struct {
	PublicKey  [32]byte
	Site, Node string
	Addresses  []netip.Addr   // the node's own inside the tunnel, at most one a family
	Subnets    []netip.Prefix // of its site, if it is the node that carries them
	// Endpoint is host:port outside; empty when the peer dials.
	Endpoint string
	// Dial says that this side dials. The other side never does.
	Dial bool
	// Keepalive is WireGuard's persistent keepalive; it is used where this
	// side dials, in whole seconds, to hold the firewall's state. 0 is none.
	Keepalive time.Duration
	// Sections are the parts of the configuration shared with the peer.
	Sections []hello.Section
}

// Config is what a Link is made from.
type Config struct {
	PrivateKey [32]byte
	// ListenPort is the UDP port; 0 is any free one.
	ListenPort uint16
	Self       Self
	Peers      []Peer
	Path       Path
	// Alive reports whether the process has been running; while it has not, data
	// packets are dropped both ways (see bind.Config). nil is always.
	Alive func() bool
	// TUNMTU is the largest packet of the host in bytes.
	TUNMTU int
	// Version is this software's, as hellos advertise it.
	Version string
	// Resolver is used for endpoints that are names; nil is net.DefaultResolver.
	Resolver Resolver
	// HelloInterval is the time between hellos; 0 is hello.DefaultInterval.
	HelloInterval time.Duration
	Logger        hclog.Logger
	// OnChange receives each change of a peer, one call at a time and in
	// order. It may be nil, and must not call the Link.
	OnChange func(PeerState)
}

// A PeerState is the part of a peer's state that decides which packets pass.
type PeerState struct {
	Site, Node string
	Up         bool // packets can pass: hellos are answered, or the peer is stock WireGuard
	GW         bool // hellos are answered
	Refused    bool // a difference or a version forbids data; not Up then
	MTU        int  // largest packet that reaches the peer, in bytes
	// Boot names the peer's process, so that a restart is seen; 0 until its first hello.
	Boot uint64
	// PartialChecksums: the peer accepts packets whose checksum is unfinished.
	PartialChecksums bool
	// Trunks: the peer accepts packets of trunks.
	Trunks bool
}

func (c *Config) check() error {
	switch {
	case c.PrivateKey == [32]byte{}:
		return errors.New("link: no private key")
	case len(c.Self.Addresses) == 0:
		return errors.New("link: this node has no address")
	case c.Path == nil:
		return errors.New("link: no packet path")
	case c.Logger == nil:
		return errors.New("link: no logger")
	}
	keys := map[[32]byte]string{}
	for _, p := range c.Peers {
		if other, ok := keys[p.PublicKey]; ok {
			return fmt.Errorf("link: nodes %s and %s have the same public key", other, p.Node)
		}
		keys[p.PublicKey] = p.Node
		if _, _, ok := common(c.Self.Addresses, p.Addresses); !ok {
			return fmt.Errorf("link: node %s and this node have no address of the same family", p.Node)
		}
		if p.Dial && p.Endpoint == "" {
			continue // a sibling without an endpoint is not dialed
		}
		if p.Endpoint != "" {
			if _, _, err := net.SplitHostPort(p.Endpoint); err != nil {
				return fmt.Errorf("link: endpoint %q of node %s: %w", p.Endpoint, p.Node, err)
			}
		}
	}
	return nil
}

// common picks an address of each list, of the same family, IPv4 if possible.
func common(here, there []netip.Addr) (src, dst netip.Addr, ok bool) {
	for _, v4 := range []bool{true, false} {
		for _, s := range here {
			for _, d := range there {
				if s.Is4() == v4 && d.Is4() == v4 {
					return s, d, true
				}
			}
		}
	}
	return netip.Addr{}, netip.Addr{}, false
}
