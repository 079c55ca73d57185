package link

import (
	"context"
	"strings"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

func panics(f func()) (text string) {
	defer func() { text, _ = recover().(string) }()
	f()
	return ""
}

// What is registered twice, for a port without datagrams, or after Run began, is a mistake of the
// program.
func TestRegistrationEndsWithRun(t *testing.T) {
	p := newPair(t)
	c := p.red
	c.Path, c.Logger, c.TUNMTU = nopPath{}, testLogger(t, "red"), 1420
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ignore := func(string, uint16, []byte) {}
	registrations := map[string]func(){
		"port 9772":           func() { l.Handle(wire.HAPort, ignore) },
		"port 9773":           func() { l.Handle(wire.StrayPort, ignore) },
		"the control streams": func() { l.HandleStreams(&streams{}) },
		"trunks":              func() { l.SetTrunks(&fakeTrunks{}) },
	}
	for what, register := range registrations {
		if text := panics(register); text != "" {
			t.Errorf("%s: %s", what, text)
		}
		if text := panics(register); text != "link: "+what+" registered twice" {
			t.Errorf("%s, for the second time: %q", what, text)
		}
	}
	if text := panics(func() { l.Handle(wire.ControlPort, ignore) }); !strings.Contains(text, "no datagrams") {
		t.Errorf("hello's own port: %q", text)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.Run(ctx) // nopPath ends it in one way or another
	for what, register := range registrations {
		if text := panics(register); text != "link: "+what+" registered after Run" {
			t.Errorf("%s, after Run: %q", what, text)
		}
	}
}
