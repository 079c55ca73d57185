// Package holds keeps what belongs to other sites off the default route, from boot until gw down.
//
// Behind every route through the TUN stands a hold (see package hostnet), which outlives the
// gateway:
//
//  1. At boot, before the network is up, gw-hold.service calls Hold.
//  2. gw up calls Hold first, before a mistake in the files can end it.
//  3. The gateway adds its routes, and removes the holds of prefixes that the node has held and that its
//     configuration no longer has.
//  4. A gateway that ends, however it ends, removes nothing.
//
// A list in the state directory records what a node has held. It counts if the files do not tell
// which prefixes belong to other sites.
package holds

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts"
)

// file is the list in the state directory, one prefix a line.
const file = "holds"

// Hold holds the subnets of the sites that this node has a link with, and returns them. sound says
// whether the configuration was read without a mistake. If it was not, Hold holds the prefixes that
// the node has held before or, if there are none, those that the configuration still tells, which
// may be none.
func Hold(cfg configs.Config, sound bool) ([]netip.Prefix, error) {
	prefixes := toHold(cfg, sound, configs.StateRoot, hostnet.Networks)
	return prefixes, hostnet.Hold(prefixes)
}

// Record adds prefixes to the list of the node. It is for a start that may fail before the gateway
// calls Store, and reports no error: Store does.
func Record(cfg configs.Config, prefixes []netip.Prefix) {
	if dir := cfg.Local.StateDir; dir != "" && len(prefixes) > 0 {
		_ = Store(dir, merge(Former(dir), prefixes))
	}
}

// toHold lists what Hold holds. root is the default parent of state directories, and networks
// returns this host's addresses with the lengths of their networks.
func toHold(cfg configs.Config, sound bool, root string, networks func() ([]netip.Prefix, error)) []netip.Prefix {
	if sound && cfg.Self.Known {
		return parts.LinkedPrefixes(cfg)
	}
	former := Former(cfg.Local.StateDir)
	if cfg.Local.StateDir == "" {
		lists, _ := filepath.Glob(filepath.Join(root, "*", file)) // the pattern is right
		for _, path := range lists {
			former = merge(former, Former(filepath.Dir(path)))
		}
	}
	if len(former) > 0 {
		return former
	}
	local, err := networks()
	if err != nil {
		return nil
	}
	return otherPrefixes(cfg, local)
}

// otherPrefixes returns the subnets of all sites but this host's, from a configuration with
// mistakes. The key tells the host's site or, without a key, the host's addresses do; if neither
// does, it returns none. It leaves out what overlaps a network of the host, since a hold of that
// would cut the host off.
func otherPrefixes(cfg configs.Config, local []netip.Prefix) (out []netip.Prefix) {
	self := cfg.Self.Site
	if !cfg.Self.Known {
		self = -1
		for _, l := range local {
			i := parts.SiteOf(cfg, l.Addr())
			if i >= 0 && self >= 0 && i != self {
				return nil // the host has addresses of two sites
			}
			self = max(self, i)
		}
		if self < 0 {
			return nil
		}
	}
	for i, s := range cfg.Sites {
		for _, p := range s.Subnets {
			if i != self && !slices.ContainsFunc(local, p.Overlaps) {
				out = append(out, p)
			}
		}
	}
	return out
}

// Former reads the list in a state directory. It leaves out what it cannot read: some of a list is
// better than none, and a missing list does not stop a gateway.
func Former(dir string) (out []netip.Prefix) {
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	for _, line := range strings.Fields(string(b)) {
		if p, err := netip.ParsePrefix(line); err == nil && p.Bits() > 0 {
			out = append(out, p.Masked())
		}
	}
	return out
}

// Store replaces the list in a state directory.
func Store(dir string, prefixes []netip.Prefix) error {
	prefixes = merge(nil, prefixes)
	if slices.Equal(Former(dir), prefixes) {
		return nil // nothing to write: a full disk does not matter
	}
	var text strings.Builder
	for _, p := range prefixes {
		fmt.Fprintln(&text, p)
	}
	path := filepath.Join(dir, file)
	if err := replaceSynced(path, text.String()); err != nil {
		return fmt.Errorf("record which prefixes are held: %w", err)
	}
	return nil
}

// replaceSynced replaces a file so that a power failure leaves the old text or the new one.
func replaceSynced(path, text string) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// merge returns the union of two lists, sorted.
func merge(list, more []netip.Prefix) []netip.Prefix {
	out := slices.Concat(list, more)
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
