package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/status"
)

// Config configures a Server.
type Config struct {
	// Path of the unix socket. Listen makes its directory if it is missing.
	Path   string
	Logger hclog.Logger
}

// Server answers the commands of this machine.
type Server struct {
	listener *net.UnixListener
	mux      *http.ServeMux
	log      hclog.Logger
}

// A Route is one question or order: the pattern of an http.ServeMux, like "POST /v1/ha/drain", and
// what answers it.
type Route struct {
	Pattern string
	Handler http.Handler
}

// Listen opens the socket, so that a second gateway for the same node ends before it touches the
// host; the error then wraps an InUseError. It starts no goroutine: commands wait in the backlog
// until Run.
func Listen(cfg Config) (*Server, error) {
	l, err := listen(cfg.Path)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, mux: http.NewServeMux(), log: cfg.Logger.Named("control")}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, http.StatusNotFound, fmt.Errorf("this gateway knows no %s %s: it is older than the command; restart it with the command's version of gw", r.Method, r.URL.Path))
	})
	return s, nil
}

// Handle adds routes. Call it before Run.
func (s *Server) Handle(routes ...Route) {
	for _, r := range routes {
		s.mux.Handle(r.Pattern, r.Handler)
	}
}

// Run answers until ctx ends, which is no error, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	s.log.Debug("control socket open", "path", s.listener.Addr())
	return status.Serve(ctx, s.listener, s.mux, s.log)
}

// Close removes the socket if Run was never called; Run does it by itself.
func (s *Server) Close() error { return s.listener.Close() }

// StatusRoutes returns the routes of snapshots.
func StatusRoutes(source status.Source) []Route {
	return []Route{
		{"GET /v1/status", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			WriteJSON(w, source.Status())
		})},
		{"GET /v1/conns", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveConns(w, r, source) })},
	}
}

func serveConns(w http.ResponseWriter, r *http.Request, source status.ConnSource) {
	q, err := parseQuery(r)
	if err != nil {
		WriteError(w, http.StatusBadRequest, err)
		return
	}
	// Select first, then write: a slow reader must not hold the flow table's locks.
	list := status.Select(source.Conns(), q)
	w.Header().Set("Content-Type", "application/json")
	_ = writeConns(w, list) // it fails when the client has gone
}

// writeConns encodes the list as json.Marshal does, but flow by flow: the text of thousands of
// flows is never in memory as a whole.
func writeConns(w io.Writer, list status.ConnList) error {
	b := bufio.NewWriterSize(w, 16<<10)
	fmt.Fprintf(b, `{"total":%d,"conns":[`, list.Total)
	enc := json.NewEncoder(b)
	for i := range list.Conns {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(&list.Conns[i]); err != nil {
			return err
		}
	}
	b.WriteString("]}\n")
	return b.Flush() // a bufio.Writer keeps its first error
}

func parseQuery(r *http.Request) (status.Query, error) {
	values := r.URL.Query()
	order, err := status.ParseOrder(values.Get("order"))
	if err != nil {
		return status.Query{}, err
	}
	q := status.Query{Order: order}
	if text := values.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 0 {
			return status.Query{}, fmt.Errorf("limit %q: use a number of flows", text)
		}
	}
	return q, nil
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		WriteError(w, http.StatusInternalServerError, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // it fails when the client has gone
}

// WriteError answers with the error in the form that Client reads, and the HTTP status code.
func WriteError(w http.ResponseWriter, code int, err error) {
	b, _ := json.Marshal(errorBody{err.Error()}) // a string always encodes
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // as in WriteJSON
}

// errorBody is the body of every answer that is not a success.
type errorBody struct {
	Error string `json:"error"`
}
