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
	host      *lab.Host
	dir       string
	proc      *lab.Proc
}

// gateways writes the configuration with gw itself and brings both nodes up.
func (d *demo) gateways(ctx context.Context, bin string) error {
	made := filepath.Join(d.lab.Dir, "made")
	endpoint := fmt.Sprintf("%s:51820", d.gray.GW().WAN4)
	d.command("anywhere", "gw init --dir site --endpoint "+endpoint)
	out, err := d.red.GW().Command(ctx, bin, "init", "--dir", made, "--endpoint", endpoint).Output()
	if err != nil {
		return err
	}
	d.text(paragraph(string(out), "The one firewall rule"))
	for _, s := range d.sites() {
		s.gw = &gateway{bin: bin, node: s.Name + "-1", host: s.GW(), dir: filepath.Join(d.lab.Dir, s.Name+"-1")}
		if err := s.gw.install(made); err != nil {
			return err
		}
	}
	// Gray first, as on a real day: nobody answers it, it waits to be dialled.
	for _, s := range []*site{d.gray, d.red} {
		if err := s.gw.up(); err != nil {
			return err
		}
	}
	for _, s := range d.sites() {
		if err := s.gw.linkUp(ctx); err != nil {
			return err
		}
		d.command(s.gw.node, "gw up -c .")
		d.text(s.gw.milestones())
	}
	d.say("Now the databases dial each other's ordinary addresses:")
	for _, s := range d.sites() {
		far := d.other(s)
		got, err := lab.SQL(ctx, s.DB().Namespace, lab.DSN(far.DB().LAN4, "postgres"), "select inet_client_addr()")
		if err != nil {
			return err
		}
		d.claim(got == s.DB().LAN4.String(), fmt.Sprintf("psql in %s reaches %s in %s, which sees", s.Name, far.DB().LAN4, far.Name), "%s", got)
	}
	return nil
}

// paragraph is the part of a text that begins with a line, up to the next one
// that stands at the margin.
func paragraph(text, begins string) string {
	_, after, ok := strings.Cut(text, begins)
	if !ok {
		return text
	}
	var keep []string
	for i, line := range strings.Split(begins+after, "\n") {
		if i > 0 && line != "" && !strings.HasPrefix(line, " ") {
			break
		}
		keep = append(keep, line)
	}
	return strings.TrimSpace(strings.Join(keep, "\n"))
}

// install gives the node what its operator would copy to it, and settings that
// let two nodes live on one file system.
func (g *gateway) install(made string) error {
	local := fmt.Sprintf("local {\n  state_dir = %q\n  socket    = %q\n}\n", filepath.Join(g.dir, "state"), g.socket())
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
	g.proc, err = g.host.Start(context.Background(), lab.Spec{Name: g.node, Args: []string{g.bin, "up", "-c", "."}, Dir: g.dir})
	return err
}

// linkUp waits for the milestone.
func (g *gateway) linkUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return g.proc.Saw(ctx, "gw: link to ")
}

// milestones is what the process has told its operator, without the log.
func (g *gateway) milestones() string {
	var told []string
	for line := range strings.Lines(g.proc.Log.String()) {
		if strings.HasPrefix(line, "gw: ") {
			told = append(told, wrap(strings.TrimSpace(line)))
		}
	}
	return strings.Join(told, "\n")
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

// ask runs a command that talks to the running gateway.
func (g *gateway) ask(ctx context.Context, args ...string) (string, error) {
	out, err := g.host.Command(ctx, g.bin, append(args, "--socket", g.socket())...).Output()
	return strings.TrimRight(string(out), "\n"), err
}

// status shows what the operator of red sees at the end.
func (d *demo) status(ctx context.Context) error {
	refused, err := d.lab.Refused()
	if err != nil {
		return err
	}
	opened, err := d.lab.Opened()
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"status"}, {"conns", "--limit", "4"}} {
		out, err := d.red.gw.ask(ctx, args...)
		if err != nil {
			return err
		}
		d.command(d.red.gw.node, "gw "+strings.Join(args, " "))
		d.text(out)
	}
	d.text("")
	d.claim(refused == d.probes, "gray never dialled red while gw ran: the firewall's count", "%d", refused-d.probes)
	d.fact("gray dialled red", "%d times (%d packets of its attempts without gw dropped)", refused-d.probes, d.probes)
	d.fact("red dialled gray", "%d times: once to try the firewall, then for the tunnel", opened)
	return nil
}
