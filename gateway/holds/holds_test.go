package holds

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/onewaylink/gw/configs"
)

func prefixList(text ...string) (out []netip.Prefix) {
	for _, t := range text {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// threeSites is red's configuration: linked with gray, and not with blue.
func threeSites(stateDir string) configs.Config {
	site := func(name, subnet, node string) configs.Site {
		return configs.Site{Name: name, Subnets: prefixList(subnet), Nodes: []configs.Node{{Name: name + "-1", Addresses: []netip.Addr{netip.MustParseAddr(node)}}}}
	}
	c := configs.Config{
		Sites: []configs.Site{site("red", "10.77.1.0/24", "10.77.1.1"), site("gray", "10.77.2.0/24", "10.77.2.1"), site("blue", "10.77.3.0/24", "10.77.3.1")},
		Links: []configs.Link{{A: "red", B: "gray", Initiator: "red"}},
	}
	c.Self.Known, c.Local.StateDir = true, stateDir
	return c
}

// What is held follows a sound configuration; with a mistake in it, what was held before; and
// if nothing was, what the configuration still says.
func TestToHold(t *testing.T) {
	root := t.TempDir()
	recorded := func(name string, prefixes ...string) string {
		t.Helper()
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Store(dir, prefixList(prefixes...)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	red1 := recorded("red-1", "10.88.2.0/24", "fd88:2::/64")
	recorded("other", "10.99.2.7/32")
	never := filepath.Join(root, "never")
	nameless := func(stateDir string) configs.Config {
		c := threeSites(stateDir)
		c.Self = configs.Self{}
		return c
	}
	for _, c := range []struct {
		name  string
		cfg   configs.Config
		sound bool
		root  string
		local []netip.Prefix
		want  []netip.Prefix
	}{
		{name: "sound", cfg: threeSites(red1), sound: true, want: prefixList("10.77.2.0/24")},
		{name: "a mistake", cfg: threeSites(red1), want: prefixList("10.88.2.0/24", "fd88:2::/64")},
		{name: "a mistake before the first start", cfg: threeSites(never), want: prefixList("10.77.2.0/24", "10.77.3.0/24")},
		{name: "a mistake that makes the host's network another site's", cfg: threeSites(never),
			local: prefixList("10.77.3.9/25", "192.0.2.1/24"), want: prefixList("10.77.2.0/24")},
		{name: "no key", cfg: nameless(red1), want: prefixList("10.88.2.0/24", "fd88:2::/64")},
		{name: "no key, state by default", cfg: nameless(""), root: root, want: prefixList("10.88.2.0/24", "10.99.2.7/32", "fd88:2::/64")},
		{name: "no key before the first start", cfg: nameless(never), local: prefixList("192.0.2.1/24", "10.77.1.30/24"), want: prefixList("10.77.2.0/24", "10.77.3.0/24")},
		{name: "no key, and an address at two sites", cfg: nameless(never), local: prefixList("10.77.1.30/24", "10.77.2.30/24")},
		{name: "no key, and no address", cfg: nameless(never), local: prefixList("192.0.2.1/24")},
		{name: "nothing can be read", root: root, want: prefixList("10.88.2.0/24", "10.99.2.7/32", "fd88:2::/64")},
		{name: "nothing can be read or was recorded", root: never},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := toHold(c.cfg, c.sound, c.root, func() ([]netip.Prefix, error) { return c.local, nil })
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	got := toHold(threeSites(never), false, root, func() ([]netip.Prefix, error) { return nil, errors.New("no netlink") })
	if got != nil {
		t.Errorf("the host's networks are unknown: %v", got)
	}
}

// A list that is damaged is as good as what can be read of it, and never the default route.
func TestFormer(t *testing.T) {
	dir := t.TempDir()
	if got := Former(dir); got != nil {
		t.Errorf("without a list: %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte("10.77.2.0/24\n0.0.0.0/0\n::/0\nfd77:2::1/64\n10.77."), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := Former(dir), prefixList("10.77.2.0/24", "fd77:2::/64"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := Store(filepath.Join(dir, "absent"), prefixList("10.77.2.0/24")); err == nil {
		t.Error("stored in a directory that is not there")
	}
}
