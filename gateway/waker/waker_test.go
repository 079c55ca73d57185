package waker

import (
	"context"
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/sites"
)

// path reports each call, and waits for its round's end if it is told to.
type path struct {
	calls chan string
	block bool
}

func (p *path) Retell(_ context.Context, site int) int {
	p.calls <- fmt.Sprint("retell ", site)
	return 0
}

func (p *path) WakeFlows(ctx context.Context, site int) int {
	p.calls <- fmt.Sprint("wake ", site)
	if p.block {
		<-ctx.Done()
		p.calls <- fmt.Sprint("ended ", site)
	}
	return 1
}

func start(t *testing.T, block bool) (*Waker, *path) {
	t.Helper()
	p := &path{calls: make(chan string, 16), block: block}
	w := New([]sites.Site{{Name: "red"}, {Name: "gray"}, {Name: "blue"}}, p, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, p
}

func (p *path) want(t *testing.T, list ...string) {
	t.Helper()
	for _, want := range list {
		if got := <-p.calls; got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

// The other side's senders are woken first: their packets take longest to arrive.
func TestWakesBothSides(t *testing.T) {
	w, p := start(t, false)
	w.Notice(sites.Event{Kind: sites.Moved, Site: "blue"}) // not a request
	w.Notice(sites.Event{Kind: sites.Wake, Site: "nowhere"})
	w.Notice(sites.Event{Kind: sites.Wake, Site: "gray"})
	p.want(t, "retell 1", "wake 1")
}

// A second takeover begins again with all senders.
func TestSecondRoundEndsTheFirst(t *testing.T) {
	w, p := start(t, true)
	w.Notice(sites.Event{Kind: sites.Wake, Site: "blue"})
	p.want(t, "retell 2", "wake 2")
	w.Notice(sites.Event{Kind: sites.Wake, Site: "blue"})
	got := map[string]bool{}
	for range 3 {
		got[<-p.calls] = true
	}
	if !got["ended 2"] || !got["retell 2"] || !got["wake 2"] {
		t.Errorf("%v", got)
	}
}

// Requests are never waited for.
func TestNoticeDoesNotBlock(t *testing.T) {
	w := New([]sites.Site{{Name: "red"}}, &path{}, hclog.NewNullLogger())
	for range 2 * queueLen {
		w.Notice(sites.Event{Kind: sites.Wake, Site: "red"})
	}
}
