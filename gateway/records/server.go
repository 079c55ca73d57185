package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
)

// Server gives records to the gateways of other sites.
type Server struct {
	// Site says which site the node at an address belongs to. Only a node that
	// has a site is served, and only with the records of that site.
	Site func(netip.Addr) (site string, ok bool)
	// Records returns the records that concern a site.
	Records func(site string) Snapshot
	// Quota limits the requests of each site; see NewQuota.
	Quota *quota.Limiter
	// Limits bound each answer. What goes over them is left out.
	Limits Limits
	Logger hclog.Logger
}

// The limits of a site. Each of the two nodes of a pair may fetch at a time, so that a site makes this
// gateway hold two copies of its records at most. A gateway fetches when it starts or takes over, and
// again every 2 s, five times, if that fails.
const (
	atOnce     = 2
	burst      = 16
	burstEvery = 2 * time.Second
)

// NewQuota returns the limits of a site's requests for records.
func NewQuota() *quota.Limiter {
	return quota.New(quota.Config{AtOnce: atOnce, Burst: burst, Every: burstEvery})
}

// Run serves what l accepts until ctx ends or l is closed, and closes l. When a
// node connects again while it is being served, as one does that was killed, Run
// first ends its former connection.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	log := quiet.New(quiet.Config{Logger: s.Logger.Named("records")})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer closeWith(ctx, l)()
	defer l.Close()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { log.Run(ctx) })
	former := make(map[netip.Addr]func()) // ends the answer to an address and waits for that
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept record fetches: %w", err)
		}
		addr := remoteAddr(conn)
		site, ok := s.Site(addr)
		if !ok {
			conn.Close()
			log.Warn("stranger", "refused flow records to an address of no linked site", "address", addr)
			continue
		}
		if end := former[addr]; end != nil {
			end()
		}
		leave, ok := s.Quota.Enter(site)
		if !ok {
			conn.Close()
			log.Warn("busy "+site, "refused flow records: too many requests of the site at a time", "address", addr, "site", site)
			continue
		}
		one, cancelOne := context.WithCancel(ctx)
		done := make(chan struct{})
		former[addr] = func() { cancelOne(); <-done }
		wg.Go(func() {
			defer close(done)
			defer leave()
			defer cancelOne()
			n, err := s.Serve(one, conn, site)
			if err != nil {
				level := hclog.Warn
				if errors.Is(err, io.EOF) {
					level = hclog.Debug // gw ping connects, and sends nothing
				}
				log.Log(level, "failed "+site, "flow records were not handed over", "address", addr, "site", site, "error", err)
				return
			}
			log.Info("done "+site, "flow records handed over", "address", addr, "site", site, "records", n)
		})
	}
}

// Serve answers one fetch on conn by a node of site and closes conn. It returns
// how many records were sent. It gathers them all before it sends the first: a
// slow peer must not hold up the flow table.
func (s *Server) Serve(ctx context.Context, conn net.Conn, site string) (int, error) {
	defer conn.Close()
	lim := s.Limits.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, lim.Time)
	defer cancel()
	defer closeWith(ctx, conn)()

	n, err := s.serve(conn, site, lim)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return n, err
}

func (s *Server) serve(conn net.Conn, site string, lim Limits) (int, error) {
	asked, err := readRequest(conn)
	st := statusFine
	switch {
	case errors.Is(err, ErrVersion):
		st = statusVersion
	case err != nil:
		return 0, err
	case asked != site:
		st, err = statusRefused, fmt.Errorf("%w: it asked for those of site %q", ErrRefused, asked)
	case !s.Quota.Spend(site):
		st, err = statusRefused, fmt.Errorf("%w: the site asks too often", ErrRefused)
	}
	if st != statusFine {
		if _, err := conn.Write(appendReply(nil, st)); err == nil {
			awaitClose(conn)
		}
		return 0, err
	}
	n, total := 0, 0
	b := appendReply(nil, statusFine)
	for key, value := range s.Records(site) {
		if !fits(key, value) || total+len(key)+len(value) > lim.Bytes {
			continue
		}
		if n == lim.Records {
			break
		}
		n, total = n+1, total+len(key)+len(value)
		b = appendRecord(b, key, value)
	}
	if _, err := conn.Write(appendEnd(b, n)); err != nil {
		return 0, fmt.Errorf("send records: %w", err)
	}
	awaitClose(conn)
	return n, nil
}

// awaitClose waits until the peer, who has all then, closes. Closing first, with
// something unread, would reset the connection and lose what is under way.
func awaitClose(conn net.Conn) {
	io.Copy(io.Discard, io.LimitReader(conn, 4096))
}

func remoteAddr(conn net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
