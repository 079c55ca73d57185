package explain

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/netstack/wire"
)

func (e *Explainer) servePing(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	count, err := strconv.Atoi(q.Get("count"))
	port, perr := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil || perr != nil || count < 1 || count > maxPings {
		control.WriteError(w, http.StatusBadRequest, fmt.Errorf("give a count of 1 to %d, and a port up to 65535", maxPings))
		return
	}
	p, err := e.ping(r.Context(), q.Get("target"), uint16(port), count)
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	control.WriteJSON(w, p)
}

const (
	maxPings = 10
	// pingTimeout bounds one try. It exceeds the initial retransmission timeout of a SYN (RFC 6298,
	// section 2: 1 s), so that one lost packet is no failure.
	pingTimeout = 2 * time.Second
)

// ping tries the path to a node, or to an address behind one, level by level: what the link
// measures, a connection to the other gateway inside the tunnel, and one from this host's kernel to
// the port, unless that is 0.
func (e *Explainer) ping(ctx context.Context, target string, port uint16, count int) (doctor.Pings, error) {
	node, addr, err := e.pinged(target)
	if err != nil {
		return doctor.Pings{}, err
	}
	out := doctor.Pings{Node: node.Name}
	for _, l := range e.cfg.Links() {
		if l.Peer == node.Name {
			out.Pings = append(out.Pings, doctor.OfLink(l))
		}
	}
	to := netip.AddrPortFrom(node.Addresses[0], wire.ControlPort)
	out.Pings = append(out.Pings, try(ctx, "gateway", node.Name, count, func(ctx context.Context) (net.Conn, error) { return e.cfg.Streams.Dial(ctx, to) }))
	if port != 0 {
		to := netip.AddrPortFrom(addr, port)
		d := net.Dialer{}
		if own := parts.OwnAddress(e.cfg.Network.SelfNode(), addr.Is4()); own.IsValid() {
			d.LocalAddr = &net.TCPAddr{IP: own.AsSlice()}
		}
		out.Pings = append(out.Pings, try(ctx, "port", to.String(), count, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", to.String()) }))
	}
	return out, nil
}

// try dials count times, or until it fails.
func try(ctx context.Context, level, target string, count int, dial func(context.Context) (net.Conn, error)) doctor.Ping {
	var took []time.Duration
	for sent := 1; ; sent++ {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		start := time.Now()
		c, err := dial(ctx)
		cancel()
		if err != nil {
			return doctor.Tried(level, target, sent, took, err)
		}
		took = append(took, time.Since(start))
		c.Close()
		if sent == count {
			return doctor.Tried(level, target, sent, took, nil)
		}
	}
}

// pinged returns the node that target names or that carries the address, and the address.
func (e *Explainer) pinged(target string) (configs.Node, netip.Addr, error) {
	addr, _ := netip.ParseAddr(target)
	for i, s := range e.cfg.Network.Sites {
		for j, n := range s.Nodes {
			if n.Name == target && (i != e.cfg.Network.Self.Site || j != e.cfg.Network.Self.Node) {
				return n, n.Addresses[0], nil
			}
		}
	}
	if i := e.siteOf(addr); i >= 0 && i != e.cfg.Network.Self.Site {
		s := e.cfg.Network.Sites[i]
		carrier := e.cfg.Reach.Carrier(s.Name)
		for _, n := range s.Nodes {
			if n.Name == carrier {
				return n, addr, nil
			}
		}
	}
	return configs.Node{}, addr, fmt.Errorf("ping %q: neither another node nor an address of another site; see gw status for the nodes", target)
}
