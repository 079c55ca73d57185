package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/holds"
	"github.com/onewaylink/gw/gateway/process"
)

type upCmd struct {
	configFlags
}

// Help is shown by kong below the command.
func (upCmd) Help() string {
	return "However it ends, and also if it does not start, no packet for another site leaves this host by the default route: the routes that hold " +
		"them back stay until the next start, or until gw down."
}

// Run brings this node up and carries packets until SIGINT or SIGTERM. SIGHUP reloads the
// configuration and reopens the audit log; SIGUSR1 reopens the audit log.
func (c *upCmd) Run(env *env) error {
	start := time.Now()
	hup := make(chan os.Signal, 1) // from the start: it would end the process
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	say := func(what string, took time.Duration) {
		fmt.Fprintf(env.stdout, "gw: %s (%s)\n", what, round(took))
	}
	cfg, diags := configs.Load(c.Config, c.options())
	held, holdErr := holds.Hold(cfg, !diags.HasErrors()) // before a mistake can end this
	holds.Record(cfg, held)
	if len(held) > 0 && holdErr == nil {
		say("held until the gateway carries it: "+prefixText(held), time.Since(start))
	}
	if err := showFindings(env, diags); err != nil {
		return err
	}
	say(fmt.Sprintf("configuration read from %s: this is node %s of site %s",
		strings.Join(cfg.Files, ", "), cfg.SelfNode().Name, cfg.SelfSite().Name), time.Since(start))
	log := newLogger(env, cfg.Local.Log)
	if holdErr != nil {
		log.Warn("packets for the other sites may take the default route until the gateway is up", "error", holdErr)
	}
	logMemory(log, process.SetMemoryLimit(memorySizes(cfg.Local)))
	g, err := gateway.New(cfg, gateway.Options{
		Version: versionText(), Milestone: say, Logger: log,
		Load: func() (configs.Config, configs.Diagnostics) {
			return configs.Load(c.Config, c.options())
		},
	})
	if err != nil {
		return err
	}
	manager := newNotifier(os.Getenv, os.Getpid(), log)
	group, ctx := errgroup.WithContext(env.ctx)
	running, stop := context.WithCancel(ctx)
	group.Go(func() error { return process.Run(running) })
	group.Go(func() error { return process.Tidy(running) })
	group.Go(func() error { return manager.run(ctx, answers(cfg.Local.Socket)) })
	group.Go(func() error {
		onSignal(running, hup, func() {
			manager.Reloading()
			defer manager.Ready() // also when the old configuration goes on
			g.ReopenAudit()
			g.Reload()
		})
		return nil
	})
	group.Go(func() error {
		onSignal(running, usr1, g.ReopenAudit)
		return nil
	})
	group.Go(func() error {
		defer stop()
		return g.Run(ctx)
	})
	err = group.Wait()
	say("stopped", time.Since(start))
	if len(held) > 0 {
		fmt.Fprintf(env.stdout, "gw: still held: %s, until the next start or `gw down`\n", prefixText(held))
	}
	if err != nil {
		return stopped(err)
	}
	return nil
}

// memorySizes are the limits that bound the memory of a gateway.
func memorySizes(l configs.Local) process.Sizes {
	return process.Sizes{
		Flows: l.Limits.Flows, Relays: l.Limits.Relays,
		Fragments: int64(l.Limits.Fragments), Capture: int64(l.Capture.Memory) << 20,
		Trunks: l.Limits.Trunks,
	}
}

// logMemory logs the memory limit, and what to do if it is lower than local.limits need.
func logMemory(log hclog.Logger, m process.MemoryLimit) {
	log.Info("memory limit", "limit", m)
	if m.Short <= 0 {
		return
	}
	todo := "lower local.limits"
	if m.From == process.FromGroup {
		todo += ", or raise MemoryHigh and MemoryMax: systemctl edit gw"
	}
	log.Warn("local.limits need more memory than there is", "limited_by", m.From, "missing_mib", m.Short>>20, "to_do", todo)
}

// stopped says what to do about a gateway that has ended by itself.
func stopped(err error) error {
	return fmt.Errorf("the gateway has stopped: %w; start it again, and if it stops again run gw doctor", err)
}

// answers returns a question that this process's own gateway answers when it
// can still tell what it does: it takes the locks of the link, the pair and the
// flow table.
func answers(socket string) func(context.Context) error {
	client := control.NewClient(socket)
	return func(ctx context.Context) error {
		_, err := client.Status(ctx)
		return err
	}
}

// newLogger makes the log that the configuration asks for, on stderr.
func newLogger(env *env, l configs.Log) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "gw", Level: hclog.LevelFromString(l.Level), JSONFormat: l.JSON, Output: env.stderr,
	})
}

// round keeps three digits of a duration, which is what people read.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
