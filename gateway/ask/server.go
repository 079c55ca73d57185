package ask

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/streams"
)

// The limits of a site: atOnce questions are answered at a time; burst at once, and one more each
// time that burstEvery has passed. gw trace asks one question or two.
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
var errFrequent = errors.New("too many questions from this site lately: wait some seconds and ask again")

// Server answers the questions of other gateways.
type Server struct {
	// Site returns the site of the node at an address. Only such a node is answered.
	Site func(netip.Addr) (site string, ok bool)
	// Answer answers a question of a node of the site. The other gateway receives its error as it
	// is.
	Answer func(ctx context.Context, site, kind string, body []byte) ([]byte, error)
	// Quota limits the questions of each site; see NewQuota.
	Quota  *quota.Limiter
	Logger hclog.Logger
}

// Run answers what l accepts until ctx ends or l is closed, and closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	accept := streams.Server{Site: s.Site, Quota: s.Quota, Handle: s.handle, Logger: s.Logger.Named("ask")}
	if err := accept.Run(ctx, l); err != nil {
		return fmt.Errorf("answer questions: %w", err)
	}
	return nil
}

func (s *Server) handle(ctx context.Context, conn net.Conn, from streams.Peer, log *quiet.Logger) {
	err := streams.Within(ctx, conn, Within, func(ctx context.Context) error { return s.serve(ctx, conn, from.Site) })
	if err != nil {
		log.Debug("failed "+from.Site, "question not answered", "address", from.Addr, "site", from.Site, "error", err)
	}
}

// serve answers one question.
func (s *Server) serve(ctx context.Context, conn net.Conn, site string) error {
	kind, body, err := readQuestion(conn)
	st, out := statusFine, []byte(nil)
	switch {
	case errors.Is(err, streams.ErrVersion):
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
	if _, werr := conn.Write(appendAnswer(nil, st, out)); werr != nil {
		return fmt.Errorf("send the answer: %w", werr)
	}
	streams.AwaitClose(conn)
	return err
}
