package streams

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
)

// Peer is the node at the other end of a stream.
type Peer struct {
	Addr netip.Addr
	Site string
}

// Server accepts streams of other sites' nodes.
type Server struct {
	// Site returns the site of the node at an address. A stream from any other address is closed.
	Site func(netip.Addr) (site string, ok bool)
	// Quota bounds how many streams of a site are served at a time.
	Quota *quota.Limiter
	// OnePerNode ends the former stream of a node that connects again, as one does that was killed.
	OnePerNode bool
	// Handle serves a stream on a goroutine of its own. It closes conn, and returns soon after ctx
	// ends.
	Handle func(ctx context.Context, conn net.Conn, from Peer, log *quiet.Logger)
	Logger hclog.Logger
}

// Run serves what l accepts until ctx ends or l is closed, and closes l. It waits for no stream but
// for a former one that it ends, so no site keeps another from being served. All goroutines have
// ended when it returns.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	log := quiet.New(quiet.Config{Logger: s.Logger})
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	wg.Go(func() { log.Run(ctx) })
	former := map[netip.Addr]func(){} // ends the stream of a node and waits for that
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("accept a stream: %w", err)
		}
		from := Peer{Addr: addressOf(conn)}
		var ok bool
		if from.Site, ok = s.Site(from.Addr); !ok {
			conn.Close()
			log.Warn("stranger", "refused a stream: the address belongs to no node of a linked site", "address", from.Addr)
			continue
		}
		if end := former[from.Addr]; end != nil {
			end()
		}
		leave, ok := s.Quota.Enter(from.Site)
		if !ok {
			conn.Close()
			log.Warn("busy "+from.Site, "refused a stream: the site has too many at a time", "address", from.Addr, "site", from.Site)
			continue
		}
		one, end := context.WithCancel(ctx)
		done := make(chan struct{})
		if s.OnePerNode {
			former[from.Addr] = func() { end(); <-done }
		}
		wg.Go(func() {
			defer close(done)
			defer leave()
			defer end()
			s.Handle(one, conn, from, log)
		})
	}
}

func addressOf(conn net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
