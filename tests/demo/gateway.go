package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// gateway is a node as its machine sees it: a directory with the shared file and
// the node's own key, and a process.
type gateway struct {
	bin, node string
	peers     []string // the nodes that it has a link to
	host      *lab.Host
	dir       string
	proc      *lab.Proc
}

// install copies to the node what its operator would, and adds settings that let
// two nodes share one file system.
func (g *gateway) install(made string) error {
	local := fmt.Sprintf("local {\n  lan       = \"lan0\"\n  state_dir = %q\n  socket    = %q\n}\n", filepath.Join(g.dir, "state"), g.socket())
	err := os.Mkdir(g.dir, 0o700)
	for _, f := range []struct {
		name string
		mode fs.FileMode
	}{{"site.hcl", 0o644}, {g.node + ".key", 0o600}} {
		text, e := os.ReadFile(filepath.Join(made, f.name))
		err = errors.Join(err, e, os.WriteFile(filepath.Join(g.dir, f.name), text, f.mode))
	}
	return errors.Join(err, os.WriteFile(filepath.Join(g.dir, "local.hcl"), []byte(local), 0o644))
}

func (g *gateway) socket() string { return filepath.Join(g.dir, "gw.sock") }

// up starts the process and returns at once. The process ends with the lab.
func (g *gateway) up() (err error) {
	// It has priority over the databases and their load, as on a machine of its own:
	// here all share a few cores, and a sibling that does not run for dead_after
	// counts as dead.
	args := []string{"nice", "-n", "-19", g.bin, "up", "-c", "."}
	g.proc, err = g.host.Start(context.Background(), lab.Spec{Name: g.node, Args: args, Dir: g.dir})
	return err
}

// linksUp waits until the process has printed that its links are up.
func (g *gateway) linksUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, peer := range g.peers {
		if err := g.proc.Saw(ctx, "gw: link to "+peer+" "); err != nil {
			return err
		}
	}
	return nil
}

// milestones returns what the process has printed for its operator, without the log.
func (g *gateway) milestones() string {
	var lines []string
	for line := range strings.Lines(g.proc.Log.String()) {
		if strings.HasPrefix(line, "gw: ") {
			lines = append(lines, wrap(strings.TrimSpace(line)))
		}
	}
	return strings.Join(lines, "\n")
}

// wrap breaks a line at spaces so that it fits.
func wrap(line string) string {
	var b strings.Builder
	room := width
	for i, word := range strings.Fields(line) {
		if n := len([]rune(word)) + 1; i > 0 && n > room {
			b.WriteString("\n   ")
			room = width - 3
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		room -= len([]rune(word)) + 1
	}
	return b.String()
}

// ask runs a command that queries the running gateway.
func (g *gateway) ask(ctx context.Context, args ...string) (string, error) {
	out, err := g.host.Command(ctx, g.bin, append(args, "--socket", g.socket())...).Output()
	return strings.TrimRight(string(out), "\n"), err
}

// status shows what the operator of red's active gateway sees at the end.
func (d *demo) status(ctx context.Context) error {
	refused, err := d.lab.Refused()
	if err != nil {
		return err
	}
	opened, err := d.lab.Opened()
	if err != nil {
		return err
	}
	active, _, err := d.settled(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"status"}, {"conns", "--limit", "4"}} {
		out, err := active.ask(ctx, args...)
		if err != nil {
			return err
		}
		d.command(active.node, "gw "+strings.Join(args, " "))
		d.text(out)
	}
	d.text("")
	d.claim(refused == d.probes, "gray never dialed red while gw ran: the firewall's count", "%d", refused-d.probes)
	d.fact("gray dialed red", "%d times (the firewall dropped %d packets before gw ran)", refused-d.probes, d.probes)
	d.fact("red dialed gray", "%d times: once to test the firewall, then for the tunnels", opened)
	return nil
}
