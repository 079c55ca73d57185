package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/safefile"
)

// exampleEndpoint stands where only the operator knows better (RFC 5737).
const exampleEndpoint = "203.0.113.10:51820"

type initCmd struct {
	Dir        string       `required:"" placeholder:"DIR" complete:"file" help:"Directory for site.hcl and the keys; created if missing."`
	RedSubnet  netip.Prefix `default:"10.77.1.0/24" help:"Subnet of the site that dials."`
	GraySubnet netip.Prefix `default:"10.77.2.0/24" help:"Subnet of the site that is dialed."`
	Endpoint   string       `placeholder:"HOST:PORT" help:"Address at which the other site reaches the dialed gateway; default: an example."`
	RedName    string       `default:"red" help:"Name of the site that dials."`
	GrayName   string       `default:"gray" help:"Name of the site that is dialed."`
}

// Run writes a configuration and the keys for it, and tells what to do next.
func (c *initCmd) Run(env *env) error {
	example := c.Endpoint == ""
	if example {
		c.Endpoint = exampleEndpoint
	}
	text, keys, err := configs.Starter(configs.StarterOptions{
		RedName: c.RedName, GrayName: c.GrayName,
		RedSubnet: c.RedSubnet, GraySubnet: c.GraySubnet,
		Endpoint: c.Endpoint,
	})
	if err != nil {
		return &usageError{err}
	}
	files := []newFile{{path: filepath.Join(c.Dir, "site.hcl"), text: text, mode: 0o644}}
	for _, k := range keys {
		files = append(files, newFile{path: filepath.Join(c.Dir, k.Node+".key"), text: []byte(k.Key.Reveal() + "\n"), mode: 0o600})
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w; choose another --dir", err)
	}
	if err := writeNew(files); err != nil {
		return err
	}
	return write(env.stdout, c.advice(keys, example))
}

// newFile is a file that must not be there yet.
type newFile struct {
	path string
	text []byte
	mode os.FileMode
}

// writeNew writes all files or none.
func writeNew(files []newFile) (err error) {
	var done []string
	defer func() {
		if err != nil {
			for _, path := range done {
				os.Remove(path)
			}
		}
	}()
	for _, f := range files {
		// Never over one that is there: without its private key a node is lost.
		w, err := safefile.Create(f.path, f.mode)
		if errors.Is(err, safefile.ErrExists) {
			return fmt.Errorf("%w; choose another --dir", err)
		}
		if err != nil {
			return fmt.Errorf("write the configuration: %w; choose another --dir", err)
		}
		done = append(done, f.path)
		_, err = w.Write(f.text)
		if err = errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
	}
	return nil
}

// advice tells the firewall rule and the next steps.
func (c *initCmd) advice(keys []configs.StarterKey, example bool) string {
	red, gray := keys[0].Node, keys[1].Node
	site := filepath.Join(c.Dir, "site.hcl")
	host, port, _ := net.SplitHostPort(c.Endpoint) // checked with the rest of the configuration
	var b strings.Builder
	fmt.Fprintf(&b, "Wrote %s, and a private key for each node: %s.key, %s.key.\n", site, red, gray)
	if example {
		fmt.Fprintf(&b, "\n%s is only an example: write the address of %s into\nthe file, or start again with --endpoint HOST:PORT.\n", c.Endpoint, gray)
	}
	fmt.Fprintf(&b, `
The one firewall rule to ask the network team for:

  Allow UDP from the gateway of %[1]s to %[2]s port %[3]s.
  Replies pass by connection state; nothing is allowed inbound to %[1]s.

With nftables, where replies pass already (ct state established,related accept):

  nft insert rule inet filter forward %[4]s udp dport %[3]s accept

Next:

  1. Look at the subnets and rules in the file, then check it:
       gw validate -c %[5]s
  2. Give each gateway the file and its own key, in /etc/gw:
       ssh root@%[6]s install -d /etc/gw
       scp %[5]s %[7]s root@%[6]s:/etc/gw/
       ssh root@%[8]s install -d /etc/gw
       scp %[5]s %[9]s root@%[8]s:/etc/gw/
     A machine holds its own key only; remove the keys here afterwards.
  3. Start both; with the package:
       systemctl enable --now gw
     else in the foreground:
       gw up -c /etc/gw
`, c.RedName, host, port, nftAddresses(host), site, red, filepath.Join(c.Dir, red+".key"), gray, filepath.Join(c.Dir, gray+".key"))
	return b.String()
}

// nftAddresses matches the way from red's gateway, whose address only the
// operator knows, to the endpoint's host.
func nftAddresses(host string) string {
	family := "ip"
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		host = "ADDRESS_OF_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(host))
	case a.Is6():
		family = "ip6"
	}
	return fmt.Sprintf("%s saddr RED_GATEWAY %s daddr %s", family, family, host)
}
