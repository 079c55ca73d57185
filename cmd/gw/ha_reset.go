package main

import (
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/epoch/reset"
)

type haResetCmd struct {
	configFlags
	Force bool `help:"Clear it even if it is not too far ahead of the clock."`
}

// Help is shown by kong below the command.
func (haResetCmd) Help() string {
	return "The gateway must be stopped. The epoch numbers the claims of this site; after a clock that ran ahead by more than a day, " +
		"other nodes refuse them. First check the clock: the next claim uses it. Do the same on the sibling before you start either."
}

// Run clears the stored epoch.
func (c *haResetCmd) Run(env *env) error {
	cfg, err := c.load(env)
	if err != nil {
		return err
	}
	r, err := reset.Reset(cfg, c.Force)
	if err != nil {
		return err
	}
	return env.show(false, nil, printed(func(p *printer) { epochResetText(p, &r) }))
}

func epochResetText(p *printer, r *reset.Result) {
	how := "ahead of"
	if r.Ahead < 0 {
		how = "behind"
	}
	p.title(green, "epoch", r.Path)
	p.field("old", fmt.Sprintf("%d, %v %s this host's clock", r.Old, r.Ahead.Abs().Round(time.Second), how))
	p.field("new", "none: the next claim uses the clock")
	if r.Sibling != "" {
		p.field("next", "run gw ha reset on "+r.Sibling+" as well, before either is started")
	}
}
