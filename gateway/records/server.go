package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/streams"
)

// Server sends records to the gateways of other sites.
type Server struct {
	// Site returns the site of the node at an address. Only such a node is served, and only with
	// the records of that site.
	Site func(netip.Addr) (site string, ok bool)
	// Records returns the records that concern a site.
	Records func(site string) Snapshot
	// Quota limits the requests of each site; see NewQuota.
	Quota *quota.Limiter
	// Limits bound each answer. What exceeds them is left out.
	Limits Limits
	Logger hclog.Logger
}

// The limits of a site. Each of the two nodes of a pair may fetch at a time, so a site makes this
// gateway hold two copies of its records at most. A gateway fetches when it starts or takes over,
// and again every 2 s, five times, if that fails.
const (
	atOnce     = 2
	burst      = 16
	burstEvery = 2 * time.Second
)

// NewQuota returns the limits of a site's requests for records.
func NewQuota() *quota.Limiter {
	return quota.New(quota.Config{AtOnce: atOnce, Burst: burst, Every: burstEvery})
}

// Run serves what l accepts until ctx ends or l is closed, and closes l. When a node connects again
// while it is being served, as one does that was killed, Run first ends its former connection.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	accept := streams.Server{Site: s.Site, Quota: s.Quota, OnePerNode: true, Handle: s.handle, Logger: s.Logger.Named("records")}
	if err := accept.Run(ctx, l); err != nil {
		return fmt.Errorf("send flow records: %w", err)
	}
	return nil
}

func (s *Server) handle(ctx context.Context, conn net.Conn, from streams.Peer, log *quiet.Logger) {
	n, err := s.Serve(ctx, conn, from.Site)
	if err != nil {
		level := hclog.Warn
		if errors.Is(err, io.EOF) {
			level = hclog.Debug // gw ping connects, and sends nothing
		}
		log.Log(level, "failed "+from.Site, "cannot send flow records", "address", from.Addr, "site", from.Site, "error", err)
		return
	}
	log.Info("done "+from.Site, "sent flow records", "address", from.Addr, "site", from.Site, "records", n)
}

// Serve answers one fetch on conn by a node of site and closes conn. It returns how many records
// were sent.
func (s *Server) Serve(ctx context.Context, conn net.Conn, site string) (n int, err error) {
	lim := s.Limits.withDefaults()
	err = streams.Within(ctx, conn, lim.Time, func(context.Context) error {
		n, err = s.serve(conn, site, lim)
		return err
	})
	return n, err
}

// serve gathers all records before it sends the first: a slow peer must not hold up the flow table.
func (s *Server) serve(conn net.Conn, site string, lim Limits) (int, error) {
	asked, err := readRequest(conn)
	st := statusFine
	switch {
	case errors.Is(err, streams.ErrVersion):
		st = statusVersion
	case err != nil:
		return 0, err
	case asked != site:
		st, err = statusRefused, fmt.Errorf("%w: it requested those of site %q", errRefused, asked)
	case !s.Quota.Spend(site):
		st, err = statusRefused, fmt.Errorf("%w: the site requests them too often", errRefused)
	}
	if st != statusFine {
		if _, err := conn.Write(appendReply(nil, st)); err == nil {
			streams.AwaitClose(conn)
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
	streams.AwaitClose(conn)
	return n, nil
}
