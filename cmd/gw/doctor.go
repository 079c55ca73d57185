package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/doctor/host"
)

// doctorFlags say what is examined.
type doctorFlags struct {
	socketFlags
	Config []string `short:"c" sep:"none" placeholder:"PATH" complete:"file" help:"Configuration to use when no gateway runs; may be repeated."`
	Key    string   `placeholder:"FILE" complete:"file" help:"With -c: this node's private key, instead of the configured one."`
}

type doctorCmd struct {
	doctorFlags
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

// Help is shown by kong below the command.
func (doctorCmd) Help() string {
	return "Each line says ok, warning or failure, and what to do. Exit code 0: no failure, though perhaps warnings; 1: a failure, or nothing could be " +
		"looked at; 2: the command line or the configuration is wrong."
}

// Run examines the running gateway, or, with -c, the host alone when none runs.
func (c *doctorCmd) Run(env *env) error {
	r, err := c.examine(env)
	if err != nil {
		return err
	}
	err = env.show(c.JSON, r, func(colour bool) string { return doctorText(r, colour) })
	if err == nil && r.Worst() == doctor.Failure {
		return errSilent
	}
	return err
}

// examine asks the running gateway, or looks by itself when none runs and there is a file.
func (c *doctorFlags) examine(env *env) (doctor.Report, error) {
	var cfg configs.Config
	if len(c.Config) > 0 {
		var err error
		if cfg, err = (configFlags{pathFlags{c.Config}, c.Key}).load(env); err != nil {
			return doctor.Report{}, err
		}
		if c.Socket == "" && c.Node == "" {
			c.Socket = cfg.Local.Socket
		}
	}
	path, err := c.resolve()
	if err != nil {
		return doctor.Report{}, fmt.Errorf("%w; to look at the host alone: gw doctor -c /etc/gw", err)
	}
	ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
	defer cancel()
	var r doctor.Report
	err = control.NewClient(path).Get(ctx, "/v1/doctor", &r)
	switch {
	case errors.Is(err, control.ErrNotRunning) && len(c.Config) > 0:
		r, err = host.Examine(cfg, nil), nil
	case errors.Is(err, control.ErrNotRunning):
		return r, fmt.Errorf("%w; to look at the host alone: gw doctor -c /etc/gw", askError(err))
	}
	r.Checks = append(r.Checks, host.CheckClock())
	return r, askError(err)
}

// doctorText puts what is bad first.
func doctorText(r doctor.Report, colour bool) string {
	p := &printer{colour: colour}
	var failures, warnings int
	for _, level := range []doctor.Level{doctor.Failure, doctor.Warning, doctor.OK} {
		for _, c := range r.Checks {
			if c.Level != level {
				continue
			}
			s := green
			switch level {
			case doctor.Failure:
				s = red
				failures++
			case doctor.Warning:
				s = yellow
				warnings++
			}
			text := c.Area + " " + c.Name + ": " + c.What
			if c.Do != "" {
				text += "; to do: " + c.Do
			}
			p.wrapped(0, 2, s, string(level)+":", text)
		}
	}
	where := fmt.Sprintf("node %s, site %s", r.Node, r.Site)
	if !r.Running {
		where += "; no gateway runs, so only host and disk were looked at"
	}
	p.wrapped(0, 2, bold, fmt.Sprintf("%s, %s:", plural(failures, "failure"), plural(warnings, "warning")), where)
	return p.out.String()
}

type pingCmd struct {
	socketFlags
	Target string `arg:"" placeholder:"NODE|ADDRESS" help:"A node, or an address of another site."`
	Port   uint16 `placeholder:"N" help:"Also connect to this TCP port, from this gateway's own address."`
	Count  int    `short:"c" default:"3" placeholder:"N" help:"Number of attempts, 1 to 10; the first failure ends it."`
	JSON   bool   `name:"json" help:"Print JSON; its names are stable."`
}

// Help is shown by kong below the command.
func (pingCmd) Help() string {
	return "Three levels: the link, by what the gateways measure all the time; the other gateway, by connects inside the tunnel; and with --port the " +
		"database's port. Exit code 0: all answered; 1: one did not."
}

// Run has the running gateway try the way.
func (c *pingCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	if c.Count < 1 || c.Count > 10 {
		return usagef("--count %d: use 1 to 10", c.Count)
	}
	ctx, cancel := context.WithTimeout(env.ctx, orderTimeout)
	defer cancel()
	q := url.Values{"target": {c.Target}, "port": {strconv.Itoa(int(c.Port))}, "count": {strconv.Itoa(c.Count)}}
	var r doctor.Pings
	if err := control.NewClient(path).Get(ctx, "/v1/ping?"+q.Encode(), &r); err != nil {
		return askError(err)
	}
	err = env.show(c.JSON, r, func(colour bool) string { return pingText(r, colour) })
	for _, p := range r.Pings {
		if err == nil && !p.OK {
			return errSilent
		}
	}
	return err
}

func pingText(r doctor.Pings, colour bool) string {
	p := &printer{colour: colour}
	for _, g := range r.Pings {
		s, level, text := green, "ok", ""
		if !g.OK {
			s, level = red, "failure"
		}
		text = g.Level + " " + g.Target + ": " + g.Means
		if g.Median > 0 {
			text += "; round trip " + delayText(time.Duration(g.Median))
		}
		if g.Sent > 0 {
			text += fmt.Sprintf("; %d of %d answered", g.Received, g.Sent)
		}
		if g.Do != "" {
			text += "; to do: " + g.Do
		}
		p.wrapped(0, 2, s, level+":", text)
	}
	return p.out.String()
}
