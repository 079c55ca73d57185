package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// atOnce bounds how many questions are answered at a time; others wait in the backlog.
const atOnce = 4

// Server answers the questions of other gateways.
type Server struct {
	// Site says which site the node at an address belongs to. Only a node that has a
	// site is answered.
	Site func(netip.Addr) (site string, ok bool)
	// Answer answers a question of a node of the site. Its error is told to the other
	// side as it is.
	Answer func(ctx context.Context, site, kind string, body []byte) ([]byte, error)
	Logger hclog.Logger
}

// Run answers what l accepts until ctx ends or l is closed, and closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	log := s.Logger.Named("ask")
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var group errgroup.Group // none fails
	group.SetLimit(atOnce)
	defer func() { _ = group.Wait() }()
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
			log.Warn("refused to answer a stranger", "address", addr)
			continue
		}
		group.Go(func() error {
			if err := s.serve(ctx, conn, site); err != nil {
				log.Debug("question not answered", "address", addr, "site", site, "error", err)
			}
			return nil
		})
	}
}

// serve answers one question and closes conn.
func (s *Server) serve(ctx context.Context, conn net.Conn, site string) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	kind, body, err := readQuestion(conn)
	st, out := statusFine, []byte(nil)
	switch {
	case errors.Is(err, ErrVersion):
		st = statusVersion
	case err != nil:
		return err
	default:
		var refusal error
		if out, refusal = s.Answer(ctx, site, kind, body); refusal == nil && len(out) > MaxBody {
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
