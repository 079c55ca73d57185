package explain

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/ask"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// Path is the data path. All methods may be called at any time, and send nothing.
type Path interface {
	// Packet builds the packet that a Probe describes, and sets what the Probe leaves open.
	Packet(pr *flow.Probe) ([]byte, error)
	// Probe judges packets from the host or from the link.
	Probe(packets [][]byte, fromHost bool) (flow.Probed, error)
	// PassesOn reports what a standby does with a packet of its site's hosts: OK if it passes the
	// packet to its sibling.
	PassesOn(pkt []byte) wire.Reason
}

var _ Path = (*flow.Path)(nil)

// Reach is what this node knows of the others. All methods may be called at any time.
type Reach interface {
	// Carrier names the node that carries a site.
	Carrier(site string) string
	// Up reports whether the link to a node is up.
	Up(node string) bool
	// Address returns the address of a site's node inside the tunnel, or the zero Addr.
	Address(site, node string) netip.Addr
	// Why says why bulk transfers to a site are relayed; "" if they are not.
	Why(site string) string
}

// Streams opens connections inside the tunnel.
type Streams interface {
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Config configures an Explainer.
type Config struct {
	// Network is the configuration that the gateway was started with. Running returns the one in
	// force: a reload changes its rules.
	Network configs.Config
	Running func() *configs.Config
	Path    Path
	Reach   Reach
	// Standby reports whether this node stands by, and Active names the node that carries its site
	// then, "" while it is unknown.
	Standby func() bool
	Active  func() string
	Streams Streams
	// Links returns what is measured of the links.
	Links func() []status.Link
	// Denied records an attempt of the site with that index: it asked about a packet that policy
	// denies, and could scan the policy by such questions.
	Denied func(site int, proto uint8, source, destination netip.AddrPort)
	Logger hclog.Logger
}

// Explainer answers commands and other gateways. It is safe for concurrent use.
type Explainer struct {
	cfg   Config
	quota *quota.Limiter // of other sites' questions
}

// New returns an Explainer.
func New(cfg Config) *Explainer { return &Explainer{cfg: cfg, quota: ask.NewQuota()} }

// Routes returns what the Explainer answers on the control socket.
func (e *Explainer) Routes() []control.Route {
	return []control.Route{
		{Pattern: "GET /v1/trace", Handler: http.HandlerFunc(e.serveTrace)},
		{Pattern: "GET /v1/ping", Handler: http.HandlerFunc(e.servePing)},
	}
}

// Port is the TCP port inside the tunnel at which a gateway answers questions.
const Port = wire.AskPort

// Serve answers the other gateways that connect to l, until ctx ends.
func (e *Explainer) Serve(ctx context.Context, l net.Listener) error {
	s := &ask.Server{
		Site:   func(a netip.Addr) (string, bool) { return parts.SiteOfNode(e.cfg.Network, a) },
		Answer: e.answer, Quota: e.quota, Logger: e.cfg.Logger,
	}
	return s.Run(ctx, l)
}

// Questions returns how many questions of a site were answered and refused.
func (e *Explainer) Questions(site string) quota.Stats { return e.quota.Stats(site) }

// node names this node, and site its site.
func (e *Explainer) node() string { return e.cfg.Network.SelfNode().Name }
func (e *Explainer) site() string { return e.cfg.Network.SelfSite().Name }

func (e *Explainer) siteOf(a netip.Addr) int { return parts.SiteOf(e.cfg.Network, a) }
