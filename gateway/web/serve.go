package web

import (
	"embed"
	"net/http"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

//go:embed assets
var assets embed.FS

// files are the page. Nothing else of the directory is served.
var files = map[string]struct{ name, kind string }{
	"/":         {"assets/index.html", "text/html; charset=utf-8"},
	"/page.css": {"assets/page.css", "text/css; charset=utf-8"},
	"/page.js":  {"assets/page.js", "text/javascript; charset=utf-8"},
}

// policy lets the page load what this server serves, and nothing else; no other page may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// sendTimeout is how long a viewer may take to accept an event.
const sendTimeout = 10 * time.Second

var _ http.Handler = (*Page)(nil)

// ServeHTTP serves the page at /, its script and style, and the stream at /events. It answers
// nothing but GET and HEAD.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	f, ok := files[r.URL.Path]
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page only shows; use gw on the command line", http.StatusMethodNotAllowed)
	case r.URL.Path == "/events":
		p.stream(w, r)
	case !ok:
		http.NotFound(w, r)
	default:
		b, err := assets.ReadFile(f.name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", f.kind)
		_, _ = w.Write(b) // the client may have gone away; there is no other to report to
	}
}

// stream sends events until the viewer goes or the gateway ends.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	events, first, err := p.join(status.Origin(r.RemoteAddr))
	switch {
	case err != nil:
		p.log.Error("stream", "web page's stream failed", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	case events == nil:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many are watching; close another window", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(events)
	rc := http.NewResponseController(w)
	// The server's limits are for short answers. This one lasts, and each event has a limit of its
	// own.
	if rc.SetReadDeadline(time.Time{}) != nil {
		http.Error(w, "this server can't stream", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event []byte) bool {
		if rc.SetWriteDeadline(time.Now().Add(sendTimeout)) != nil {
			return false
		}
		_, err := w.Write(event)
		return err == nil && rc.Flush() == nil
	}
	for _, event := range first {
		if !send(event) {
			return
		}
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case event, ok := <-events:
			if !ok || !send(event) { // not ok: it made room
				return
			}
		}
	}
}
