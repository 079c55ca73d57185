package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// traceTimeout is how long a trace may take: the running gateway asks the other site's, which may
// not answer.
const traceTimeout = 12 * time.Second

type traceCmd struct {
	Source      string `arg:"" placeholder:"SOURCE" help:"Source: ADDRESS or ADDRESS:PORT; without a port, any unused one."`
	Destination string `arg:"" placeholder:"DESTINATION" help:"Destination: ADDRESS:PORT, or ADDRESS for icmp."`
	Proto       string `arg:"" optional:"" default:"tcp" enum:"tcp,udp,icmp" help:"tcp (the default), udp or icmp."`
	socketFlags
	JSON  bool          `name:"json" help:"Print JSON; its names are stable. With --live one line a packet."`
	Size  int           `placeholder:"BYTES" help:"Size of the IP packet in bytes; default: the smallest. A SYN carries no payload, whatever the size."`
	Live  bool          `help:"Follow what happens to real packets between the two, both ways, until interrupted. An end may be \"any\", ports may be left out."`
	Count int           `placeholder:"N" help:"With --live: end after N packets."`
	For   time.Duration `placeholder:"TIME" help:"With --live: end after a time such as 30s."`
}

// Help is shown by kong below the command.
func (traceCmd) Help() string {
	return "The packet is judged by what judges real ones, and sent nowhere. The gateway of the other site is asked what it would do, " +
		"and on a standby the active one of its own site.\n\n" +
		"Exit codes: 0 it passes on both, 1 it is dropped, or the other gateway can't be asked.\n\n" +
		"  gw trace 10.77.2.10 10.77.1.10:5432\n" +
		"  gw trace 10.77.2.10 10.77.1.10 icmp --size 1500\n" +
		"  gw trace any 10.77.1.10:5432 --live --count 20"
}

// Validate refuses what kong's types can't.
func (c *traceCmd) Validate() error {
	switch {
	case c.Count < 0 || c.For < 0:
		return errors.New("--count and --for: use more than nothing, or leave them out")
	case !c.Live && (c.Count != 0 || c.For != 0):
		return errors.New("--count and --for go with --live")
	case c.Live && c.Size != 0:
		return errors.New("--size goes without --live: real packets have a size")
	case c.Size < 0 || c.Size > 65535:
		return fmt.Errorf("--size %d: use a number of bytes up to 65535", c.Size)
	}
	_, err := c.spec()
	return err
}

// spec is what the arguments name.
func (c *traceCmd) spec() (status.FlowSpec, error) {
	f, err := status.ParseFlowSpec(c.Source + " " + c.Destination + " " + c.Proto)
	if err != nil || c.Live {
		return f, err
	}
	switch {
	case !f.A.Addr().IsValid() || !f.B.Addr().IsValid():
		return f, errors.New("name both ends by their addresses; \"any\" goes with --live")
	case f.Proto != "icmp" && f.B.Port() == 0:
		return f, fmt.Errorf("name the port that it goes to: %s:PORT", c.Destination)
	}
	return f, nil
}

// Run asks the running gateway.
func (c *traceCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	spec, err := c.spec()
	if err != nil {
		return usagef("%w", err)
	}
	if c.Live {
		return c.follow(env, control.NewClient(path), spec)
	}
	ctx, cancel := context.WithTimeout(env.ctx, traceTimeout)
	defer cancel()
	t, err := control.NewClient(path).Trace(ctx, spec, c.Size)
	if err != nil {
		return askError(err)
	}
	err = env.show(c.JSON, t, printed(func(p *printer) { traceText(p, &t) }))
	if err == nil && t.Verdict != status.TracePasses {
		return errSilent
	}
	return err
}

// follow shows real packets until there were enough, or the time is over.
func (c *traceCmd) follow(env *env, client *control.Client, spec status.FlowSpec) error {
	ctx, cancel := within(env.ctx, c.For)
	defer cancel()
	enc := json.NewEncoder(env.stdout)
	n := 0
	var failed error
	err := client.Packets(ctx, spec, func(pkt status.Packet) bool {
		if c.JSON {
			failed = enc.Encode(pkt)
		} else {
			p := &printer{colour: wantsColour(env.stdout)}
			packetText(p, &pkt)
			failed = write(env.stdout, p.out.String())
		}
		n++
		return failed == nil && n != c.Count
	})
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return nil // interrupted, or the time is over
	case err != nil:
		return askError(err)
	}
	return nil
}

// within is a context that ends after d, or never by itself when d is 0.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
