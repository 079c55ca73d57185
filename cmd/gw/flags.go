package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onewaylink/gw/configs"
)

// pathFlags name the configuration. The tag "complete" tells the completion
// scripts what a value is.
type pathFlags struct {
	Config []string `short:"c" required:"" sep:"none" placeholder:"PATH" complete:"file" help:"Configuration file, or a directory of *.hcl files; may be repeated."`
}

// configFlags are the flags of commands that take a configuration and act as
// one of its nodes.
type configFlags struct {
	pathFlags
	Key string `placeholder:"FILE" complete:"file" help:"This node's private key, instead of the configured one."`
}

// load reads the configuration of a node that is about to run. It shows all
// findings, and returns an error that ends in exit code 2 if there are mistakes.
func (f configFlags) load(env *env) (configs.Config, error) {
	return f.loadAs(env, f.options())
}

// options are those of a command that needs the node's key.
func (f configFlags) options() configs.Options {
	return configs.Options{KeyFile: f.Key, Credentials: os.Getenv("CREDENTIALS_DIRECTORY")}
}

func (f pathFlags) loadAs(env *env, opt configs.Options) (configs.Config, error) {
	cfg, diags := configs.Load(f.Config, opt)
	return cfg, showFindings(env, diags)
}

// showFindings writes the findings to stderr and sums the mistakes up in an error.
func showFindings(env *env, diags configs.Diagnostics) error {
	if len(diags.List) > 0 {
		if err := diags.WriteDiagnostics(env.stderr, wantsColour(env.stderr)); err != nil {
			return fmt.Errorf("write what is wrong with the configuration: %w", err)
		}
		fmt.Fprintln(env.stderr)
	}
	n := 0
	for _, d := range diags.List {
		if d.Severity == configs.SeverityError {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return usagef("%s in the configuration: correct what is shown above", plural(n, "mistake"))
}

// socketDir is where gateways make their control sockets by default.
const socketDir = "/run/gw"

// socketFlags say which running gateway a command talks to.
type socketFlags struct {
	Socket string `placeholder:"PATH" complete:"file" xor:"gateway" help:"Control socket of the gateway."`
	Node   string `placeholder:"NAME" xor:"gateway" help:"Node that runs here, when there are several."`
}

// resolve returns the path of the control socket: the one given, the named
// node's, or that of the only gateway that runs here.
func (f socketFlags) resolve() (string, error) { return f.resolveIn(socketDir) }

func (f socketFlags) resolveIn(dir string) (string, error) {
	if f.Socket != "" {
		return f.Socket, nil
	}
	if f.Node != "" {
		if f.Node != filepath.Base(f.Node) {
			return "", usagef("--node %q: give the name of a node, or a path with --socket", f.Node)
		}
		return filepath.Join(dir, f.Node+".sock"), nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for a running gateway: %w; run it as root, or name the socket with --socket", err)
	}
	var found []string
	for _, e := range entries {
		if e.Type()&fs.ModeSocket != 0 && strings.HasSuffix(e.Name(), ".sock") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) > 1 {
		// A killed gateway leaves its socket behind. Only one that answers counts.
		if live := slices.DeleteFunc(slices.Clone(found), dead); len(live) > 0 {
			found = live
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no gateway is running here (no socket in %s); start it with systemctl start gw, or gw up -c /etc/gw; or name its socket with --socket", dir)
	case 1:
		return found[0], nil
	}
	return "", usagef("several gateways run here; name one with --socket: %s", strings.Join(found, ", "))
}

// dead reports whether no process listens on a socket.
func dead(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}
