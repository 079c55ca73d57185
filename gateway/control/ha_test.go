package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/status"
)

// pair is a pair that does what a test tells it to.
type pair struct {
	status   status.HA
	failover status.Failover
	test     status.HATest
	err      error
	// entered gets a value when an action begins, which then lasts until its ctx ends; nil for at
	// once.
	entered chan struct{}
	forced  bool
}

var _ HA = (*pair)(nil)

func (p *pair) Status() status.HA { return p.status }

func (p *pair) act(ctx context.Context) error {
	if p.entered == nil {
		return p.err
	}
	p.entered <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (p *pair) Drain(ctx context.Context, force bool) (status.Failover, error) {
	p.forced = force
	return p.failover, p.act(ctx)
}
func (p *pair) Failover(ctx context.Context) (status.Failover, error) { return p.failover, p.act(ctx) }
func (p *pair) Test(ctx context.Context) (status.HATest, error)       { return p.test, p.act(ctx) }

func listenHA(t *testing.T, ha HA) (*Server, *Client) {
	t.Helper()
	path := socketPath(t)
	s, err := Listen(Config{Path: path, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle(HARoutes(ha, hclog.NewNullLogger())...)
	return s, NewClient(path)
}

func TestHA(t *testing.T) {
	p := &pair{
		status:   status.HA{Node: "red-1", Role: status.RoleActive, Epoch: 1773500000123, Sibling: status.Sibling{Node: "red-2", State: status.SiblingUp}},
		failover: status.Failover{From: "red-1", To: "red-2", Phases: status.Phases{Total: status.Millis(12345 * time.Microsecond)}},
		test:     status.HATest{Node: "red-2", Records: 7, Problems: []string{"one is missing"}},
	}
	s, c := listenHA(t, p)
	run(t, s)
	ctx := t.Context()

	h, err := c.HA(ctx)
	if err != nil || h.Node != "red-1" || h.Role != status.RoleActive || h.Epoch != p.status.Epoch || h.Sibling != p.status.Sibling {
		t.Errorf("status %+v, %v", h, err)
	}
	for _, force := range []bool{true, false} {
		f, err := c.Drain(ctx, force)
		if err != nil || f != p.failover || p.forced != force {
			t.Errorf("drain, force %v: %+v, forced %v, %v", force, f, p.forced, err)
		}
	}
	if f, err := c.Failover(ctx); err != nil || f != p.failover {
		t.Errorf("failover: %+v, %v", f, err)
	}
	if got, err := c.TestHA(ctx); err != nil || cmp.Diff(p.test, got) != "" {
		t.Errorf("test: %+v, %v", got, err)
	}

	var answer any
	for request, want := range map[string]string{
		"/v1/ha/drain?force=perhaps": `force "perhaps": use true or false`,
		"/v1/ha/swap":                "this gateway knows no POST /v1/ha/swap",
	} {
		if err := c.Post(ctx, request, &answer); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", request, err, want)
		}
	}
	if err := c.Get(ctx, "/v1/ha/drain", &answer); err == nil || !strings.Contains(err.Error(), "knows no GET /v1/ha/drain") {
		t.Errorf("a mere question drains: %v", err)
	}

	p.err = errors.New("the sibling's records are incomplete: wait for gw ha status to say in sync, or use --force")
	for name, do := range actions(c) {
		if err := do(ctx); err == nil || !strings.Contains(err.Error(), p.err.Error()) {
			t.Errorf("%s: a refusal reads %v", name, err)
		}
	}
}

// actions are the orders that a client can give.
func actions(c *Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"drain":    func(ctx context.Context) error { _, err := c.Drain(ctx, false); return err },
		"failover": func(ctx context.Context) error { _, err := c.Failover(ctx); return err },
		"test":     func(ctx context.Context) error { _, err := c.TestHA(ctx); return err },
	}
}

func TestNoSibling(t *testing.T) {
	s, c := listenHA(t, nil)
	run(t, s)
	all := actions(c)
	all["status"] = func(ctx context.Context) error { _, err := c.HA(ctx); return err }
	for name, do := range all {
		if err := do(t.Context()); err == nil || !strings.Contains(err.Error(), "this node has no sibling") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An operator who gives up must not leave an order waiting for ever.
func TestActionEndsWithItsClient(t *testing.T) {
	p := &pair{entered: make(chan struct{})}
	s, c := listenHA(t, p)
	run(t, s) // which returns only when all answers have ended
	for name, do := range actions(c) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- do(ctx) }()
		<-p.entered
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
