package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

type reloadCmd struct {
	socketFlags
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

// Help is shown by kong below the command.
func (reloadCmd) Help() string {
	return "The gateway reads the files that it was started with, and applies them as a whole or not at all; SIGHUP does the same. " +
		"It can change the policy, keepalives and the log's level; gw plan says what the rest takes. " +
		"Exit codes: 0 applied; 1 the gateway can't be asked; 2 the configuration is wrong; 4 it takes a restart. " +
		"Unless it is 0, what ran before runs on."
}

// Run has the running gateway read its configuration again.
func (c *reloadCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, orderTimeout)
	defer cancel()
	r, err := control.NewClient(path).Reload(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: it may still come about; see the gateway's log, or gw plan", err)
	case err != nil:
		return askError(err)
	}
	if err := env.show(c.JSON, r, func(colour bool) string { return reloadText(r, colour) }); err != nil {
		return err
	}
	return reloadCode(r)
}

func reloadCode(r status.Reload) error {
	switch {
	case r.Applied:
		return nil
	case len(r.Mistakes) > 0:
		return exitCode(exitUsage)
	}
	return exitCode(exitRestart)
}

// onSignal acts at each signal until ctx ends.
func onSignal(ctx context.Context, signals <-chan os.Signal, act func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			act()
		}
	}
}
