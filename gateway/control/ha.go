package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/status"
)

// HA is the pair as commands see it. All methods may be called at any time and by several
// goroutines at once. An action that takes time stops waiting when ctx ends; what it has begun may
// still happen, and Status shows it. Commands show the errors unchanged: each says why the action
// was refused and what to do.
type HA interface {
	// Status is a snapshot.
	Status() status.HA
	// Drain hands over to the sibling, while both are alive, and returns when the sibling is
	// active. Only the active node can; unless force is set it refuses when the sibling is unfit or
	// its records are incomplete.
	Drain(ctx context.Context, force bool) (status.Failover, error)
	// Failover makes this node, a standby, the active one, whether or not the sibling answers.
	Failover(ctx context.Context) (status.Failover, error)
	// Test compares the records of both nodes, without touching the wire. A comparison that finds
	// something is no error.
	Test(ctx context.Context) (status.HATest, error)
}

// errNoSibling answers all questions about a pair where there is none.
var errNoSibling = errors.New("this node has no sibling: its site has one node; add a second one to the site's block on all nodes to make a pair")

// HARoutes returns the routes of a pair. Without one, ha is nil and each route answers so.
func HARoutes(ha HA, log hclog.Logger) (routes []Route) {
	log = log.Named("control")
	handle := func(pattern string, answer func(r *http.Request) (any, int, error)) {
		routes = append(routes, Route{pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ha == nil {
				WriteError(w, http.StatusNotFound, errNoSibling)
				return
			}
			v, code, err := answer(r)
			if err != nil {
				WriteError(w, code, err)
				return
			}
			WriteJSON(w, v)
		})})
	}
	handle("GET /v1/ha", func(*http.Request) (any, int, error) { return ha.Status(), 0, nil })
	handle("POST /v1/ha/drain", func(r *http.Request) (any, int, error) {
		force, err := parseForce(r)
		if err != nil {
			return nil, http.StatusBadRequest, err
		}
		log.Info("an operator drains this node", "force", force)
		f, err := ha.Drain(r.Context(), force)
		return f, http.StatusConflict, err
	})
	handle("POST /v1/ha/failover", func(r *http.Request) (any, int, error) {
		log.Info("an operator makes this node the active one")
		f, err := ha.Failover(r.Context())
		return f, http.StatusConflict, err
	})
	handle("POST /v1/ha/test", func(r *http.Request) (any, int, error) {
		t, err := ha.Test(r.Context())
		return t, http.StatusConflict, err
	})
	return routes
}

func parseForce(r *http.Request) (bool, error) {
	text := r.URL.Query().Get("force")
	if text == "" {
		return false, nil
	}
	force, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("force %q: use true or false", text)
	}
	return force, nil
}

// HA asks for the node's view of its pair.
func (c *Client) HA(ctx context.Context) (status.HA, error) {
	var h status.HA
	err := c.Get(ctx, "/v1/ha", &h)
	return h, err
}

// Drain orders the gateway to hand over to its sibling, and waits until the sibling is active.
func (c *Client) Drain(ctx context.Context, force bool) (status.Failover, error) {
	var f status.Failover
	err := c.Post(ctx, "/v1/ha/drain?"+url.Values{"force": {strconv.FormatBool(force)}}.Encode(), &f)
	return f, err
}

// Failover orders the gateway, a standby, to become the active one, and waits until it is.
func (c *Client) Failover(ctx context.Context) (status.Failover, error) {
	var f status.Failover
	err := c.Post(ctx, "/v1/ha/failover", &f)
	return f, err
}

// TestHA has the records of both nodes compared.
func (c *Client) TestHA(ctx context.Context) (status.HATest, error) {
	var t status.HATest
	err := c.Post(ctx, "/v1/ha/test", &t)
	return t, err
}
