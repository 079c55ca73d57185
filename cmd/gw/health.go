package main

import (
	"context"
	"fmt"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

type healthCmd struct {
	socketFlags
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

// Help is shown by kong below the command.
func (healthCmd) Help() string {
	return "For scripts and load balancers: it says what the election of a pair goes by. " +
		"Exit code 0: no fault keeps this node from serving; 1: one does, or no gateway runs."
}

// Run shows the faults of the running gateway.
func (c *healthCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
	defer cancel()
	var f status.Fitness
	if err := control.NewClient(path).Get(ctx, "/v1/health", &f); err != nil {
		return askError(err)
	}
	err = env.show(c.JSON, f, func(colour bool) string { return healthReport(&f, colour) })
	if err == nil && !f.Fit {
		return errSilent
	}
	return err
}

// healthReport lists the faults that stand.
func healthReport(f *status.Fitness, colour bool) string {
	p := &printer{colour: colour}
	if f.Fit {
		p.title(green, "fit", f.Node+" can serve its site")
	} else {
		p.title(red, "not fit", f.Node+" cannot serve its site")
	}
	for i := range f.Faults {
		if x := &f.Faults[i]; x.Stands {
			p.alarm(x.Fault, fmt.Sprintf("%s, since %s; %s", x.What, spanText(f.Time.Sub(x.Since)), x.Do))
		}
	}
	return p.out.String()
}
