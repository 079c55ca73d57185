package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// The exit codes of plan and reload beyond the common ones.
const (
	exitEnds    = 3 // connections would end
	exitRestart = 4 // a reload can't apply it
)

// exitCode is an error that the output has told, with the code to end with.
type exitCode int

func (e exitCode) Error() string { return "exit code " + strconv.Itoa(int(e)) }

type planCmd struct {
	pathFlags
	socketFlags
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

// Help is shown by kong below the command.
func (planCmd) Help() string {
	return "Nothing is changed. Exit codes: 0 nothing changes, or gw reload applies it and no connection ends; " +
		"1 the gateway can't be asked; 2 the configuration is wrong; 3 gw reload applies it, and the connections shown end; " +
		"4 it takes a restart, through which connections live, but for those shown."
}

// Run asks the running gateway what the files would do to it.
func (c *planCmd) Run(env *env) error {
	socket, err := c.resolve()
	if err != nil {
		return err
	}
	// Mistakes are best shown here, where the text is. The gateway knows which node it is.
	cfg, err := c.loadAs(env, configs.Options{Key: configs.KeyIgnored})
	if err != nil {
		return err
	}
	files, err := readFiles(cfg.Files)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, orderTimeout)
	defer cancel()
	p, err := control.NewClient(socket).Plan(ctx, files)
	if err != nil {
		return askError(err)
	}
	if err := env.show(c.JSON, p, func(colour bool) string { return planText(p, colour) }); err != nil {
		return err
	}
	return planCode(p)
}

// planCode is the most that somebody who watches the code has to know.
func planCode(p status.Plan) error {
	switch {
	case len(p.Mistakes) > 0:
		return exitCode(exitUsage)
	case len(p.NeedsRestart()) > 0:
		return exitCode(exitRestart)
	case len(p.Ends) > 0:
		return exitCode(exitEnds)
	}
	return nil
}

// readFiles reads configuration files for the gateway, which may see other ones under
// the same names.
func readFiles(names []string) ([]control.File, error) {
	var files []control.File
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the configuration again: %w", err)
		}
		if name, err = filepath.Abs(name); err != nil {
			return nil, fmt.Errorf("find the configuration: %w", err)
		}
		files = append(files, control.File{Name: name, Text: text})
	}
	return files, nil
}
