package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// Space that the state directory's disk should have: records of a full table and
// their next version take some 20 MB.
const (
	fewBytes = 256 << 20
	noBytes  = 32 << 20
)

// Examine looks at this host for the node of cfg, and at its gateway by the snapshot
// that it has given; nil when none runs. It changes nothing.
func Examine(cfg configs.Config, running *status.Status) doctor.Report {
	r := doctor.Report{Node: cfg.SelfNode().Name, Site: cfg.SelfSite().Name, Time: time.Now(), Running: running != nil}
	for _, s := range hostnet.Survey(parts.CheckConfig(cfg, parts.HostConfig(cfg))) {
		if len(s.Findings) == 0 {
			r.Checks = append(r.Checks, doctor.Check{Area: "host", Name: s.Name, Level: doctor.OK, What: "as it should be"})
		}
		for _, f := range s.Findings {
			level := doctor.Warning
			if f.Level == hostnet.Fatal {
				level = doctor.Failure
			}
			r.Checks = append(r.Checks, doctor.Check{Area: "host", Name: s.Name, Level: level, What: f.What, Do: f.Mend})
		}
	}
	r.Checks = append(r.Checks, diskCheck(cfg.Local.StateDir))
	if running != nil {
		r.Checks = append(r.Checks, doctor.Running(*running)...)
	}
	return r
}

// CheckClock asks the kernel whether its clock is synchronized. The command does so, not the
// gateway: the unit's filter of system calls has no adjtimex(2), which can also set the clock.
func CheckClock() doctor.Check {
	c := doctor.Check{Area: "host", Name: "clock", Level: doctor.OK, What: "synchronised"}
	if state, err := unix.Adjtimex(&unix.Timex{}); err != nil {
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("could not be asked: %v", err), "run gw as root"
	} else if state == unix.TIME_ERROR {
		c.Level, c.What, c.Do = doctor.Warning, "nobody synchronises it: a step back keeps WireGuard from new handshakes", "timedatectl set-ntp true"
	}
	return c
}

// diskCheck looks at the state directory, or at where it would be made.
func diskCheck(dir string) doctor.Check {
	c := doctor.Check{Area: "disk", Name: dir, Level: doctor.OK}
	at := dir
	for at != "/" && at != "." {
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
			break
		}
		at = filepath.Dir(at)
	}
	var fs unix.Statfs_t
	if err := unix.Access(at, unix.W_OK); err != nil {
		c.Level, c.What, c.Do = doctor.Failure, fmt.Sprintf("%s can't be written: %v", at, err), "run gw as root, and see that the file system is not read-only: findmnt -T "+at
		return c
	}
	if err := unix.Statfs(at, &fs); err != nil {
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("its space could not be read: %v", err), "df "+at
		return c
	}
	free := fs.Bavail * uint64(fs.Bsize)
	c.What = fmt.Sprintf("writable, %d MiB free", free>>20)
	switch {
	case free < noBytes:
		c.Level, c.What, c.Do = doctor.Failure, fmt.Sprintf("%d MiB free: records of connections can't be kept", free>>20), "make room: df -h "+at
	case free < fewBytes:
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("%d MiB free", free>>20), "make room: df -h "+at
	}
	return c
}

// examineRoutes are what gw doctor and gw ping ask.
func (g *Gateway) examineRoutes() []control.Route {
	return []control.Route{
		{Pattern: "GET /v1/doctor", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			st := g.source.Status()
			control.WriteJSON(w, Examine(g.cfg, &st))
		})},
		{Pattern: "GET /v1/ping", Handler: http.HandlerFunc(g.servePing)},
	}
}

func (g *Gateway) servePing(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	count, err := strconv.Atoi(q.Get("count"))
	port, perr := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil || perr != nil || count < 1 || count > maxPings {
		control.WriteError(w, http.StatusBadRequest, fmt.Errorf("give a count of 1 to %d, and a port up to 65535", maxPings))
		return
	}
	p, err := g.ping(r.Context(), q.Get("target"), uint16(port), count)
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	control.WriteJSON(w, p)
}

const (
	maxPings = 10
	// pingWait is how long one try may take: longer than the first repetition of a
	// SYN (RFC 6298, section 2: 1 s), so that one lost packet is no failure.
	pingWait = 2 * time.Second
)

// ping tries the way to a node, or to an address behind one: what the link measures, a
// connect to the gateway's own stack inside the tunnel, and one from this host's
// kernel to the port, unless that is 0.
func (g *Gateway) ping(ctx context.Context, target string, port uint16, count int) (doctor.Pings, error) {
	node, addr, err := g.pinged(target)
	if err != nil {
		return doctor.Pings{}, err
	}
	out := doctor.Pings{Node: node.Name}
	for _, l := range g.source.Status().Links {
		if l.Peer == node.Name {
			out.Pings = append(out.Pings, doctor.OfLink(l))
		}
	}
	to := netip.AddrPortFrom(node.Addresses[0], wire.ControlPort)
	out.Pings = append(out.Pings, try(ctx, "gateway", node.Name, count, func(ctx context.Context) (net.Conn, error) { return g.streams.Dial(ctx, to) }))
	if port != 0 {
		to := netip.AddrPortFrom(addr, port)
		d := net.Dialer{}
		if own := parts.OwnAddress(g.cfg.SelfNode(), addr.Is4()); own.IsValid() {
			d.LocalAddr = &net.TCPAddr{IP: own.AsSlice()}
		}
		out.Pings = append(out.Pings, try(ctx, "port", to.String(), count, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", to.String()) }))
	}
	return out, nil
}

// try dials up to count times, and no more after a failure.
func try(ctx context.Context, level, target string, count int, dial func(context.Context) (net.Conn, error)) doctor.Ping {
	var took []time.Duration
	for sent := 1; ; sent++ {
		ctx, cancel := context.WithTimeout(ctx, pingWait)
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

// pinged finds the node that a name means or that carries an address, and the address.
func (g *Gateway) pinged(target string) (configs.Node, netip.Addr, error) {
	addr, _ := netip.ParseAddr(target)
	for i, s := range g.cfg.Sites {
		for j, n := range s.Nodes {
			if n.Name == target && (i != g.cfg.Self.Site || j != g.cfg.Self.Node) {
				return n, n.Addresses[0], nil
			}
		}
	}
	if i := parts.SiteOf(g.cfg, addr); i >= 0 && i != g.cfg.Self.Site {
		s := g.cfg.Sites[i]
		carrier := g.carrier(s.Name)
		for _, n := range s.Nodes {
			if n.Name == carrier {
				return n, addr, nil
			}
		}
	}
	return configs.Node{}, addr, fmt.Errorf("ping %q: it is no other node and no address of another site; gw status names the nodes", target)
}
