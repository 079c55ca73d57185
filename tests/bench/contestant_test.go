package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// contestant is a lab of its own with a way between the sites.
type contestant struct {
	name string
	*lab.Lab
	gateways []*lab.Proc // none without a tunnel
	program  string      // of a gw
	// via is where gray's database dials to reach red's; the zero value is red's
	// own address.
	via netip.AddrPort
}

// trio are gw, plain wireguard-go, and no tunnel, each with a warm connection.
func trio(b *testing.B) []*contestant {
	b.Helper()
	all := []*contestant{startGW(b, "gw", lab.Config{}, ""), startPlain(b, "plain", lab.Config{}), startDirect(b, "none")}
	for _, c := range all {
		c.warm(b)
	}
	return all
}

// warm waits until the way is there, and lets caches, pools and windows grow.
func (c *contestant) warm(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	if _, err := lab.RunTransfer(ctx, c.bulk(1, 64<<20, 0)); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
}

// bulk is a transfer between the databases. Red dials, whichever way the bytes go.
func (c *contestant) bulk(flows int, out, back int64) lab.TransferConfig {
	from, to := c.Red.DB(), c.Gray.DB()
	return lab.TransferConfig{
		From: from.Namespace, To: to.Namespace, Addr: netip.AddrPortFrom(to.LAN4, 0),
		Bytes: out / int64(flows), Back: back / int64(flows), Flows: flows, Unhashed: true,
		Congestion: usual,
	}
}

// usual is the congestion control of hosts nearly everywhere; this machine's own
// default may be another.
const usual = "cubic"

// cpu is what the gateways have used so far, together.
func (c *contestant) cpu(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, u := range c.usage(b) {
		sum += u.CPU
	}
	return sum
}

func (c *contestant) usage(b *testing.B) (all []lab.Usage) {
	b.Helper()
	for _, p := range c.gateways {
		u, err := p.Usage()
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// startPlain joins the sites by two plain wireguard-go processes.
func startPlain(b *testing.B, name string, cfg lab.Config) *contestant {
	b.Helper()
	l := lab.Start(b, cfg)
	red, gray, err := lab.StartPlainTunnel(context.Background(), l)
	if err != nil {
		b.Fatal(err)
	}
	return &contestant{name: name, Lab: l, gateways: []*lab.Proc{red, gray}}
}

// startDirect routes the sites' networks over the WAN as they are.
func startDirect(b *testing.B, name string) *contestant {
	b.Helper()
	l := lab.Start(b, lab.Config{})
	for _, s := range []*lab.Site{l.Red, l.Gray} {
		if err := l.WAN.Route(s.Subnets[0], s.GW().WAN4, ""); err != nil {
			b.Fatal(err)
		}
	}
	return &contestant{name: name, Lab: l}
}

const siteFile = `
site "red" {
  subnets = ["%s", "%s"]
  node "red-1" {
    public_key = "%s"
    address    = ["%s", "%s"]
  }
}
site "gray" {
  subnets = ["%s", "%s"]
  node "gray-1" {
    public_key = "%s"
    address    = ["%s", "%s"]
    endpoint   = "%s:51820"
  }
}
link "red" "gray" {
  initiator = "red"
}
policy {
  rule "all" {
    from  = ["red", "gray", "red-1", "gray-1"]
    to    = ["red", "gray", "red-1", "gray-1"]
    ports = ["any"]
    mode  = "%s"
  }
}
`

const localBlock = `
local {
  private_key_file = "private.key"
  state_dir        = "state"
  socket           = "gw.sock"
  lan              = "lan0"
  %s
  tun {
    %s
  }
}
`

// startGW joins the sites by two gateways, as `gw up` starts them, which carry TCP
// packet by packet. tun are settings of the TUN device.
func startGW(b *testing.B, name string, cfg lab.Config, tun string) *contestant {
	b.Helper()
	return startMode(b, name, cfg, "route", tun)
}

// startMode is startGW with a policy mode for all TCP.
func startMode(b *testing.B, name string, cfg lab.Config, mode, tun string) *contestant {
	b.Helper()
	return startWith(b, name, built(b), cfg, mode, fmt.Sprintf(localBlock, "", tun))
}

// startChecked is startMode "relay" with check = true.
func startChecked(b *testing.B, name string, cfg lab.Config) *contestant {
	b.Helper()
	return startWith(b, name, built(b), cfg, "relay", fmt.Sprintf(localBlock, "check = true", ""))
}

// built returns the gw of this tree.
func built(b *testing.B) string {
	b.Helper()
	program, err := lab.Build("github.com/onewaylink/gw/cmd/gw")
	if err != nil {
		b.Fatal(err)
	}
	return program
}

// startWith joins the sites by two gateways that run program.
func startWith(b *testing.B, name, program string, cfg lab.Config, mode, local string) *contestant {
	b.Helper()
	l := lab.Start(b, cfg)
	c := &contestant{name: name, Lab: l, program: program}
	r, g := l.Red, l.Gray
	keys := map[*lab.Site]lab.Key{r: lab.NewKey(), g: lab.NewKey()}
	text := fmt.Sprintf(siteFile,
		r.Subnets[0], r.Subnets[1], keys[r].Public(), r.GW().Node4, r.GW().Node6,
		g.Subnets[0], g.Subnets[1], keys[g].Public(), g.GW().Node4, g.GW().Node6, g.GW().WAN4, mode,
	) + local
	for _, s := range []*lab.Site{g, r} {
		dir := filepath.Join(l.Dir, s.Name)
		if err := errors.Join(
			os.MkdirAll(dir, 0o700),
			os.WriteFile(filepath.Join(dir, "site.hcl"), []byte(text), 0o600),
			os.WriteFile(filepath.Join(dir, "private.key"), []byte(keys[s].String()+"\n"), 0o600),
		); err != nil {
			b.Fatal(err)
		}
		// The process outlives this function, and ends with the lab.
		p, err := s.GW().Start(context.Background(), lab.Spec{
			Name: "gw", Args: []string{program, "up", "-c", filepath.Join(dir, "site.hcl")},
		})
		if err != nil {
			b.Fatal(err)
		}
		c.gateways = append(c.gateways, p)
	}
	c.awaitLinks(b, 0)
	return c
}

// setWAN impairs the WAN, and waits until the gateways know how long it is:
// their round trips are smoothed.
func (c *contestant) setWAN(b *testing.B, wan lab.Impairment) {
	b.Helper()
	c.Box.SetBoth(wan)
	c.awaitLinks(b, 2*wan.Delay*9/10)
}

// awaitLinks waits until the link of both gateways is up, with such a round trip at least.
func (c *contestant) awaitLinks(b *testing.B, rtt time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for i, s := range []*lab.Site{c.Gray, c.Red} {
		socket := filepath.Join(c.Dir, s.Name, "gw.sock")
		err := lab.Until(ctx, s.Name+"'s link", func() (bool, error) {
			select {
			case <-c.gateways[i].Done():
				return false, fmt.Errorf("gw has exited:\n%s", c.gateways[i].Log)
			default:
			}
			out, err := s.GW().Command(ctx, c.program, "status", "--json", "--socket", socket).Output()
			if err != nil {
				return false, nil // not listening yet
			}
			var st status.Status
			if err := json.Unmarshal(out, &st); err != nil {
				return false, err
			}
			return len(st.Links) == 1 && st.Links[0].State == status.LinkUp && st.Links[0].RTT.Duration() >= rtt, nil
		})
		if err != nil {
			b.Fatalf("%v\n%s", err, strings.TrimSpace(c.gateways[i].Log.Tail(20)))
		}
	}
}
