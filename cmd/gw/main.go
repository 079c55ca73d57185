// Command gw makes one routed network of two sites that a one-way firewall
// parts. This package is the command line only: it parses, loads the
// configuration, builds what a command needs, runs it, and turns the outcome
// into an exit code. Each command has a file of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/process"
)

// The exit codes, as `gw --help` tells them.
const (
	exitOK     = 0
	exitFailed = 1 // the operation failed
	exitUsage  = 2 // usage or configuration
)

const description = `One network for two sites, over a firewall that lets connections through in one direction only.

Exit codes: 0 success, 1 the operation failed, 2 the command line or the configuration is wrong. plan and reload have more: see their --help.`

// cli is the grammar of the command line.
type cli struct {
	Up         upCmd         `cmd:"" help:"Run this node's gateway in the foreground until it is interrupted."`
	Down       downCmd       `cmd:"" help:"Remove the holds: packets for the other sites take this host's other routes again."`
	Hold       holdCmd       `cmd:"" help:"Block packets for the other sites until the gateway is up."`
	Status     statusCmd     `cmd:"" help:"Show the running gateway: links, flows, drops."`
	Conns      connsCmd      `cmd:"" help:"List the connections that the running gateway carries."`
	Plan       planCmd       `cmd:"" help:"Show what reloading these files would change and which connections it would drop."`
	Reload     reloadCmd     `cmd:"" help:"Reload the configuration of the running gateway."`
	Trace      traceCmd      `cmd:"" help:"Explain what happens to a packet, or trace live packets."`
	Capture    captureCmd    `cmd:"" help:"Write the packets of both sides to a pcapng file, dropped ones included."`
	Top        topCmd        `cmd:"" help:"Show links, pair and flows live, on the whole terminal."`
	HA         haCmd         `cmd:"" name:"ha" help:"Show and control the pair: status, drain, failover, test."`
	Doctor     doctorCmd     `cmd:"" help:"Examine host, links, policy, pair and disk, and show what to do."`
	Ping       pingCmd       `cmd:"" help:"Test the path to a node or a database: link, gateway, port."`
	Bundle     bundleCmd     `cmd:"" help:"Collect what helps to find a fault into one file, without keys."`
	Init       initCmd       `cmd:"" help:"Write a first configuration for two sites, with keys."`
	Import     importCmd     `cmd:"" help:"Convert a wg-quick file into a first configuration."`
	Validate   validateCmd   `cmd:"" help:"Check configuration files and list all errors."`
	Fmt        fmtCmd        `cmd:"" help:"Format configuration files."`
	Render     renderCmd     `cmd:"" help:"Print the configuration with only the parts that one site needs."`
	Reference  referenceCmd  `cmd:"" help:"Print a reference configuration that explains every setting."`
	Genkey     genkeyCmd     `cmd:"" help:"Print a new private key."`
	Pubkey     pubkeyCmd     `cmd:"" help:"Read a private key and print its public key."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" hidden:"" help:"Write the manual's pages."`
}

// env is what a command gets from its surroundings. ctx ends on SIGINT or
// SIGTERM.
type env struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is a mistake of the caller: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errSilent ends a command with exit code 1 when its output has said why.
var errSilent = errors.New("the output has said why")

func main() {
	// Most commands hold a private key at some time.
	if err := process.ForbidCore(); err != nil {
		fmt.Fprintf(os.Stderr, "gw: a crash could write keys to a core file: %v; ulimit -c 0 forbids it\n", err)
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends a process that is slow to stop

	// kong ends the process after --help; here it ends run.
	type exit struct{ code int }
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = e.code
		}
	}()
	parser := kong.Must(&cli{},
		kong.Name("gw"), kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 80}),
	)
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "gw: %v; see `gw --help`\n", err)
		return exitUsage
	}
	return report(stderr, k.Run(&env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}))
}

// show writes an answer to stdout: as JSON, or as the text that is made of it.
func (e *env) show(asJSON bool, answer any, text func(colour bool) string) error {
	if asJSON {
		return writeJSON(e.stdout, answer)
	}
	return write(e.stdout, text(wantsColour(e.stdout)))
}

// writeJSON writes a command's --json output.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w; check where standard output goes", err)
	}
	return nil
}

// report tells an error to the operator and returns the exit code for it.
func report(stderr io.Writer, err error) int {
	var usage *usageError
	var config *configs.Error
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage), errors.As(err, &config):
		fmt.Fprintf(stderr, "gw: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "gw: %v\n", err)
	return exitFailed
}
