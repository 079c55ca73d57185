package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// orderTimeout is how long an order to a running gateway may take, which is less than the 30 s
// after which the gateway would not answer any more. A handover takes milliseconds, or is refused.
const orderTimeout = 25 * time.Second

type haCmd struct {
	Status   haStatusCmd   `cmd:"" help:"Show which node is active, why and since when, and whether the other one could take over."`
	Drain    haDrainCmd    `cmd:"" help:"Hand over from this node, which is active, to its sibling."`
	Failover haFailoverCmd `cmd:"" help:"Make this node, which stands by, active."`
	Reset    haResetCmd    `cmd:"" help:"Clear the stored epoch of a node that is stopped, when others refuse its claims."`
	Test     haTestCmd     `cmd:"" help:"Prove that the standby's records are complete; nothing is sent to hosts."`
}

// haFlags are common to all.
type haFlags struct {
	socketFlags
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

type haStatusCmd struct{ haFlags }

// Run shows the running gateway's view of its pair.
func (c *haStatusCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
	defer cancel()
	h, err := control.NewClient(path).HA(ctx)
	if err != nil {
		return askError(err)
	}
	return env.show(c.JSON, h, printed(func(p *printer) { haStatusText(p, &h) }))
}

type haDrainCmd struct {
	haFlags
	Force bool `help:"Hand over even if the sibling is unfit or its records are incomplete; connections may break."`
}

// Help is shown by kong below the command.
func (haDrainCmd) Help() string {
	return "Both nodes stay up; connections go on. Do it before the node is stopped, and see with gw ha test that nothing would be lost."
}

// Run hands over to the sibling.
func (c *haDrainCmd) Run(env *env) error {
	return order(env, c.haFlags, func(ctx context.Context, client *control.Client) error {
		f, err := client.Drain(ctx, c.Force)
		if err != nil {
			return err
		}
		return env.show(c.JSON, f, printed(func(p *printer) { failoverText(p, "drained", &f) }))
	})
}

type haFailoverCmd struct{ haFlags }

// Help is shown by kong below the command.
func (haFailoverCmd) Help() string {
	return "It needs no answer of the sibling, for when that one can't be asked. While it can, rather use gw ha drain there: " +
		"that one makes sure that nothing is lost."
}

// Run takes over from the sibling.
func (c *haFailoverCmd) Run(env *env) error {
	return order(env, c.haFlags, func(ctx context.Context, client *control.Client) error {
		f, err := client.Failover(ctx)
		if err != nil {
			return err
		}
		return env.show(c.JSON, f, printed(func(p *printer) { failoverText(p, "failed over", &f) }))
	})
}

type haTestCmd struct {
	haFlags
	Wait time.Duration `placeholder:"60s" help:"Repeat the test for at most this long, until a takeover would lose nothing."`
}

// Help is shown by kong below the command.
func (haTestCmd) Help() string {
	return "Compares the records of connections on both nodes. Exit code 0: a takeover now would lose none of them; 1: it would lose some, or the answer is unknown."
}

// testEvery is the time between two questions while a test is waited for.
const testEvery = 500 * time.Millisecond

// Run compares the records, until they agree or the caller has waited enough. What is
// shown is the last answer. A gateway that does not answer yet is waited for as well.
func (c *haTestCmd) Run(env *env) error {
	deadline := time.Now().Add(c.Wait)
	for {
		var t status.HATest
		err := order(env, c.haFlags, func(ctx context.Context, client *control.Client) (err error) {
			t, err = client.TestHA(ctx)
			return err
		})
		if left := time.Until(deadline); left > 0 && (err != nil || !t.OK) {
			select {
			case <-env.ctx.Done():
			case <-time.After(min(left, testEvery)):
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := env.show(c.JSON, t, printed(func(p *printer) { haTestText(p, &t) })); err != nil {
			return err
		}
		if !t.OK {
			return errSilent
		}
		return nil
	}
}

// order sends a gateway an order. The error of a caller that stops waiting says that it may still
// happen.
func order(env *env, flags haFlags, do func(context.Context, *control.Client) error) error {
	path, err := flags.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, orderTimeout)
	defer cancel()
	err = do(ctx, control.NewClient(path))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: not done within %v, and may still happen; see gw ha status", err, orderTimeout)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: it may still happen; see gw ha status", err)
	}
	return askError(err)
}
