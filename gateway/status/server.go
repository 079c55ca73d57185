package status

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServerConfig is what the status page needs.
type ServerConfig struct {
	// Listen is the TCP address to serve on, like 127.0.0.1:9770.
	Listen string
	Source StatusSource
	// Page answers all other requests; nil has none.
	Page   http.Handler
	Logger hclog.Logger
}

// Server serves the node's state to monitoring over HTTP:
//
//	/metrics  Prometheus metrics
//	/healthz  200 as long as the process can take a snapshot of itself
//	/readyz   200 when at least one link carries packets, or there are none to wait for; otherwise 503 and the links' states
//	/         the page for people, when there is one
type Server struct {
	listener net.Listener
	handler  http.Handler
	log      hclog.Logger
}

// Listen binds the address, so that a wrong or taken one is told before the gateway touches the host. It starts no goroutine.
func Listen(cfg ServerConfig) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the status page: %w; choose another address with local { status { listen = … } }", err)
	}
	return &Server{listener: l, handler: handler(cfg), log: cfg.Logger.Named("status")}, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, which is no error.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("status page open", "address", s.Addr())
	return Serve(ctx, s.listener, s.handler)
}

// Close gives the address back when Run was never called; Run does it by itself.
func (s *Server) Close() error { return s.listener.Close() }

func handler(cfg ServerConfig) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(cfg.Source))
	logger := cfg.Logger.Named("metrics").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn})

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: logger,
		// A scraper that comes back while the last snapshot hangs must not pile up more.
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		cfg.Source.Status()
		plain(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := notReady(cfg.Source.Status().Links); why != "" {
			plain(w, http.StatusServiceUnavailable, why)
			return
		}
		plain(w, http.StatusOK, "ready\n")
	})
	if cfg.Page != nil {
		mux.Handle("/", cfg.Page)
	}
	return mux
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client may have gone away; there is nobody else to tell
}
