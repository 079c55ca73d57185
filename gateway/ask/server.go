package ask

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

// The limits of a site: so many questions are answered at a time, so many at once, and each of these
// again after burstEvery. gw trace asks one question or two.
const (
	atOnce     = 4
	burst      = 20
	burstEvery = 500 * time.Millisecond
)

// NewQuota returns the limits of a site's questions.
func NewQuota() *quota.Limiter {
	return quota.New(quota.Config{AtOnce: atOnce, Burst: burst, Every: burstEvery})
}

// errFrequent is the answer to a site that has used up its questions.
var errFrequent = errors.New("it has had too many questions of this site: wait some seconds and ask again")

// Server answers the questions of other gateways.
type Server struct {
	// Site says which site the node at an address belongs to. Only a node that has a
	// site is answered.
	Site func(netip.Addr) (site string, ok bool)
	// Answer answers a question of a node of the site. Its error is sent to the other
	// side as it is.
	Answer func(ctx context.Context, site, kind string, body []byte) ([]byte, error)
	// Quota limits the questions of each site; see NewQuota.
	Quota  *quota.Limiter
	Logger hclog.Logger
}

// Run answers what l accepts until ctx ends or l is closed, and closes l. It never waits for a
// conversation, so that no site can keep another from asking.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	log := quiet.New(quiet.Config{Logger: s.Logger.Named("ask")})
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	wg.Go(func() { log.Run(ctx) })
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("accept questions: %w", err)
		}
		addr := addressOf(conn)
		site, ok := s.Site(addr)
		if !ok {
			conn.Close()
			log.Warn("stranger", "refused a question of an address of no linked site", "address", addr)
			continue
		}
		leave, ok := s.Quota.Enter(site)
		if !ok {
			conn.Close()
			log.Warn("busy "+site, "refused a question: too many of the site at a time", "address", addr, "site", site)
			continue
		}
		wg.Go(func() {
			defer leave()
			if err := s.serve(ctx, conn, site); err != nil {
				log.Debug("failed "+site, "question not answered", "address", addr, "site", site, "error", err)
			}
		})
	}
}

// abort ends a connection and discards what the peer has not taken.
func abort(conn net.Conn) {
	if l, ok := conn.(lingerer); ok {
		l.SetLinger(0)
	}
	conn.Close()
}

// lingerer is what TCP connections of package net and of netstack have.
type lingerer interface {
	SetLinger(sec int) error
}

var _ lingerer = (*net.TCPConn)(nil)

// serve answers one question and closes conn.
func (s *Server) serve(ctx context.Context, conn net.Conn, site string) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	defer context.AfterFunc(ctx, func() { abort(conn) })()
	kind, body, err := readQuestion(conn)
	st, out := statusFine, []byte(nil)
	switch {
	case errors.Is(err, ErrVersion):
		st = statusVersion
	case err != nil:
		return err
	default:
		var refusal error
		if !s.Quota.Spend(site) {
			refusal = errFrequent
		} else if out, refusal = s.Answer(ctx, site, kind, body); refusal == nil && len(out) > MaxBody {
			refusal = errors.New("the answer is too long")
		}
		if refusal != nil {
			st, out = statusRefused, []byte(refusal.Error())
		}
	}
	if _, werr := conn.Write(append(appendHead(nil, answer, byte(st), len(out)), out...)); werr != nil {
		return fmt.Errorf("send the answer: %w", werr)
	}
	// The one who asked has it all when it closes. Closing first could reset the
	// connection and lose what is under way.
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 4096))
	return err
}

func addressOf(conn net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
