package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/onewaylink/gw/configs"
)

type importCmd struct {
	File string   `arg:"" complete:"file" help:"File of wg-quick, such as /etc/wireguard/wg0.conf."`
	Dir  string   `required:"" placeholder:"DIR" complete:"file" help:"Directory for site.hcl, local.hcl and the key; created if missing."`
	Site string   `default:"here" help:"Name of the site that this machine is a gateway of."`
	Peer []string `placeholder:"NAME" sep:"none" help:"Name of a peer's site; may be repeated, in the order of the peers."`
}

// Help is shown by kong below the command.
func (importCmd) Help() string {
	return "Each peer becomes a site with one gateway. What has no equivalent is listed with its line. " +
		"The file is left as it is, and nothing that runs is touched."
}

// wgLimit is more than a file of wg-quick has, in bytes.
const wgLimit = 1 << 20

// Run writes what the file became, with the remarks on stderr.
func (c *importCmd) Run(env *env) error {
	f, err := os.Open(c.File)
	if err != nil {
		return &usageError{fmt.Errorf("read the file of wg-quick: %w; name one such as /etc/wireguard/wg0.conf", err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, wgLimit+1))
	if err != nil {
		return fmt.Errorf("read the file of wg-quick: %w; name one such as /etc/wireguard/wg0.conf", err)
	}
	if len(text) > wgLimit {
		return usagef("%s is longer than %d bytes; name a file of wg-quick", c.File, wgLimit)
	}
	out, diags := configs.ImportWG(c.File, text, configs.ImportOptions{Site: c.Site, Peers: c.Peer})
	if err := showFindings(env, diags); err != nil {
		return err
	}
	site, key := filepath.Join(c.Dir, "site.hcl"), filepath.Join(c.Dir, out.Node+".key")
	files := []newFile{{site, out.Site, 0o644}, {key, []byte(out.Key.Reveal() + "\n"), 0o600}}
	names := site + " and " + key
	if out.Local != nil {
		local := filepath.Join(c.Dir, "local.hcl")
		files = append(files, newFile{local, out.Local, 0o644})
		names = site + ", " + local + " and " + key
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w; choose another --dir", err)
	}
	if err := writeNew(files); err != nil {
		return err
	}
	return write(env.stdout, c.advice(out, names, plural(len(diags.List), "remark")))
}

// advice tells what to do next.
func (c *importCmd) advice(out configs.Imported, names, remarks string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Wrote %s.\nThis machine is node %s of site %s.\n\nNext:\n\n", names, out.Node, c.Site)
	b.WriteString("  1. Edit site.hcl: go through the " + remarks + " above, and narrow the policy.\n")
	if out.OwnEndpoint {
		b.WriteString("     Write this node's endpoint: the one there is only an example.\n")
	}
	fmt.Fprintf(&b, "     Then: gw validate -c %[1]s\n"+
		"  2. Give site.hcl to the gateways of the other sites. Each keeps the key that it\n"+
		"     has: its PrivateKey, in a *.key file of its own in /etc/gw, mode 0600.\n"+
		"  3. On each gateway, one after the other, change over:\n"+
		"       wg-quick down NAME && gw up -c %[1]s\n", c.Dir)
	return b.String()
}
