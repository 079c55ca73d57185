package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/holds"
	"github.com/onewaylink/gw/gateway/hostnet"
)

type holdCmd struct {
	configFlags
}

// Help is shown by kong below the command.
func (holdCmd) Help() string {
	return "For the start of the machine: gw-hold.service runs it before the network is up. It needs no key and no sound configuration if the node has " +
		"run on this machine before. A gateway that starts does the same first of all."
}

// Run puts the holds in place and leaves everything else as it is.
func (c *holdCmd) Run(env *env) error {
	cfg, diags := configs.Load(c.Config, c.options())
	held, err := holds.Hold(cfg, !diags.HasErrors())
	if err != nil {
		return asRoot(fmt.Errorf("hold packets for the other sites back: %w", err))
	}
	if len(held) == 0 {
		if err := showFindings(env, diags); err != nil {
			return err
		}
		return errors.New("no site to hold packets for: give this node's site a link to another one")
	}
	_, err = fmt.Fprintf(env.stdout, "gw: held until the gateway carries it: %s\n", prefixText(held))
	if diags.HasErrors() && err == nil {
		_, err = fmt.Fprintln(env.stdout, "gw: the configuration has mistakes; gw validate shows them")
	}
	return err
}

type downCmd struct{}

// Help is shown by kong below the command.
func (downCmd) Help() string {
	return "A gateway that ends leaves routes which hold packets for the other sites back, so that they don't leave unencrypted by the default route. " +
		"This removes them, with the device if it persists. The gateway must not be running: systemctl stop gw. At the next start of the machine they " +
		"are back, unless gw is disabled: systemctl disable gw."
}

// Run opens what ended gateways have left held.
func (c *downCmd) Run(env *env) error {
	left, err := hostnet.Down()
	if len(left.Prefixes) > 0 {
		fmt.Fprintf(env.stdout, "gw: opened: packets for %s take this host's other routes now\n", prefixText(left.Prefixes))
	}
	if len(left.Devices) > 0 {
		fmt.Fprintf(env.stdout, "gw: removed: %s\n", strings.Join(left.Devices, ", "))
	}
	if err == nil && len(left.Prefixes) == 0 && len(left.Devices) == 0 {
		fmt.Fprintln(env.stdout, "gw: nothing is held on this host")
	}
	return downError(err)
}

// downError adds to an error of hostnet.Down what to do about it.
func downError(err error) error {
	if errors.Is(err, hostnet.ErrRunning) {
		return fmt.Errorf("%w; stop it first:\n  systemctl stop gw", err)
	}
	return asRoot(err)
}

// asRoot adds to an error what to do if root would not have had it.
func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; run gw as root", err)
	}
	return err
}

// prefixText lists prefixes for people to read.
func prefixText(list []netip.Prefix) string {
	text := make([]string, 0, len(list))
	for _, p := range list {
		text = append(text, p.String())
	}
	return strings.Join(text, ", ")
}
