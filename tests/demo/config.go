package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/onewaylink/gw/tests/lab"
)

// bringUp writes the configuration with gw itself and brings all nodes up.
func (d *demo) bringUp(ctx context.Context, bin string) error {
	made, err := d.configure(ctx, bin)
	if err != nil {
		return err
	}
	for _, s := range d.sites() {
		for i, host := range s.Gateways {
			node := fmt.Sprintf("%s-%d", s.Name, i+1)
			s.gws = append(s.gws, &gateway{bin: bin, node: node, host: host, dir: filepath.Join(d.lab.Dir, node)})
		}
	}
	for _, g := range d.gateways() {
		for _, peer := range d.gateways() {
			if peer != g {
				g.peers = append(g.peers, peer.node)
			}
		}
		if err := g.install(made); err != nil {
			return err
		}
		if err := g.up(); err != nil {
			return err
		}
	}
	for _, g := range d.gateways() {
		if err := g.linksUp(ctx); err != nil {
			return err
		}
		d.command(g.node, "gw up -c .")
		d.text(g.milestones())
	}
	if _, _, err := d.settled(ctx); err != nil {
		return err
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

// configure makes a directory with the file for all nodes and a key for each.
func (d *demo) configure(ctx context.Context, bin string) (made string, err error) {
	made = filepath.Join(d.lab.Dir, "made")
	endpoint := fmt.Sprintf("%s:51820", d.gray.GW().WAN4)
	d.command("anywhere", "gw init --dir site --endpoint "+endpoint)
	gw := func(stdin io.Reader, args ...string) (string, error) {
		cmd := d.red.GW().Command(ctx, bin, args...)
		cmd.Stdin = stdin
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	told, err := gw(nil, "init", "--dir", made, "--endpoint", endpoint)
	if err != nil {
		return "", err
	}
	d.text(paragraph(told, "The one firewall rule"))

	d.say("Red gets a second gateway: a key, some lines in the file, and an address on the\nLAN that the active one of the two answers for.")
	d.command("anywhere", "gw genkey > site/red-2.key")
	key, err := gw(nil, "genkey")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(made, "red-2.key"), []byte(key+"\n"), 0o600); err != nil {
		return "", err
	}
	public, err := gw(strings.NewReader(key), "pubkey")
	if err != nil {
		return "", err
	}
	d.command("anywhere", "$EDITOR site/site.hcl; gw validate -c site/site.hcl")
	file := filepath.Join(made, "site.hcl")
	if err := d.addPair(file, public); err != nil {
		return "", err
	}
	if _, err := gw(nil, "fmt", file); err != nil {
		return "", err
	}
	if _, err := gw(nil, "validate", "-c", file); err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	d.text(paragraph(string(text), "site \"red\" {") + "\n}")
	return made, err
}

// addPair does what an operator's editor does.
func (d *demo) addPair(file, public string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	one, two := d.red.Gateways[0], d.red.Gateways[1]
	address := fmt.Sprintf("address    = %q\n", one.Node4)
	before, after, ok := strings.Cut(string(text), address+"  }\n")
	if !ok {
		return fmt.Errorf("the file that gw init wrote has no %q at the end of a node:\n%s", address, text)
	}
	pair := fmt.Sprintf(`sibling_endpoint = "%s:51820"
  }

  node "red-2" {
    public_key = %q
    address = %q
    sibling_endpoint = "%s:51820"
  }

  pair {
    vip = "%s/%d"
  }
`, one.LAN4, public, two.Node4, two.LAN4, d.red.Routers[0], d.red.Subnets[0].Bits())
	// The rule for ping names the gateways.
	after = strings.ReplaceAll(after, `"red-1", "gray-1"]`, `"red-1", "red-2", "gray-1"]`)
	return os.WriteFile(file, []byte(before+address+pair+after), 0o644)
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
