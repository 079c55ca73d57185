package status

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
)

// Both HTTP servers of a gateway answer from memory, so anything slower than this is a client that
// hangs.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	// endTimeout is how long answers under way may go on when the gateway ends.
	endTimeout = time.Second
	// maxHeader is ample for requests that carry nothing but a path and a query.
	maxHeader = 16 << 10
)

// Serve answers HTTP requests on l until ctx ends, then lets the answers under way finish for a
// second and cuts what remains. It closes l, and returns only when all its goroutines have. The end
// of ctx is no error. What net/http has to say of requests goes to logger, at a limited rate, since
// any client can make it say much.
func Serve(ctx context.Context, l net.Listener, h http.Handler, logger hclog.Logger) error {
	var conns sync.WaitGroup
	lines := quiet.New(quiet.Config{Logger: logger})
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quietLog(lines),
		// Requests see the end of the gateway, so that a handler which waits for something stops.
		BaseContext: func(net.Listener) context.Context { return ctx },
		// A connection's goroutine reports its own end last; New is reported before it starts.
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
	}
	// Close order: Shutdown closes the listener and idle connections and waits for busy ones; Close
	// cuts those that remain; Serve's goroutine has ended with the listener; then the connections'
	// goroutines are waited for.
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	var err error
	for running := true; running; {
		select {
		case <-flush.C:
			lines.Flush()
		case err = <-served:
			_ = srv.Close() // the listener is already broken, and that is the error to tell
			running = false
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			if srv.Shutdown(end) != nil {
				_ = srv.Close() // cutting is the answer to a Shutdown that took too long
			}
			cancel()
			err = <-served
			running = false
		}
	}
	conns.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
}

// flushEvery is how often suppressed lines are looked for that may be written now.
const flushEvery = 10 * time.Second

// quietLog is a logger for net/http, whose lines share one limit.
func quietLog(lines *quiet.Logger) *log.Logger { return log.New(lineWriter{lines}, "", 0) }

// lineWriter writes lines as warnings.
type lineWriter struct{ lines *quiet.Logger }

// Write implements io.Writer.
func (w lineWriter) Write(b []byte) (int, error) {
	w.lines.Warn("http", "http server", "line", strings.TrimSpace(string(b)))
	return len(b), nil
}
