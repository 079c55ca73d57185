package status

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/onewaylink/gw/gateway/quiet"
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
//	/readyz   200 when no fault keeps the node from serving, and a link carries packets or there is none;
//	          otherwise 503 with the faults or the links' states. An unprotected pair is ready, and the
//	          answer says why it is not protected
//	/         the page for people, when there is one
//
// All of it is for requests that ask by address, as localhost or by the host of Listen; others get
// 421. Any number of requests cost one snapshot a second.
type Server struct {
	listener net.Listener
	handler  http.Handler
	log      hclog.Logger
}

// Listen binds the address, so that a wrong or taken one is told before the gateway touches the
// host. It starts no goroutine.
func Listen(cfg ServerConfig) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the status page: %w; choose another address with local { status { listen = … } }", err)
	}
	return &Server{listener: newCrowd(l, maxConns), handler: handler(cfg), log: cfg.Logger.Named("status")}, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, which is no error.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("status page open", "address", s.Addr())
	return Serve(ctx, s.listener, s.handler, s.log)
}

// Close gives the address back when Run was never called; Run does it by itself.
func (s *Server) Close() error { return s.listener.Close() }

func handler(cfg ServerConfig) http.Handler {
	now := newSnapshots(cfg.Source)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(now, cfg.Logger.Named("metrics")))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := now.soon(r); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		plain(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		s, err := now.soon(r)
		if err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		if why := unfit(s.Faults) + notReady(s.Links); why != "" {
			plain(w, http.StatusServiceUnavailable, why)
			return
		}
		plain(w, http.StatusOK, "ready\n"+unprotected(s.HA))
	})
	if cfg.Page != nil {
		mux.Handle("/", cfg.Page)
	}
	return guard(cfg.Listen, mux)
}

// soon is get for a request, within snapshotWait.
func (s *snapshots) soon(r *http.Request) (Status, error) {
	ctx, cancel := context.WithTimeout(r.Context(), snapshotWait)
	defer cancel()
	return s.get(ctx)
}

// maxScrapes is how many answers for Prometheus are made at a time.
const maxScrapes = 4

// metricsHandler makes an answer in memory and sends it then, so that a client that reads slowly
// keeps no other from being answered.
func metricsHandler(now *snapshots, log hclog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(now))
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: quietLog(quiet.New(quiet.Config{Logger: log}))})
	making := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := now.soon(r); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		select {
		case making <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		answer := &draft{ResponseWriter: w, code: http.StatusOK}
		func() {
			defer func() { <-making }()
			metrics.ServeHTTP(answer, r)
		}()
		w.WriteHeader(answer.code)
		_, _ = w.Write(answer.body.Bytes()) // the client may have gone away; there is no other to report to
	})
}

// draft keeps an answer in memory.
type draft struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (d *draft) WriteHeader(code int) { d.code = code }

// Write implements http.ResponseWriter.
func (d *draft) Write(b []byte) (int, error) { return d.body.Write(b) }

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client may have gone away; there is no other to report to
}
