package gateway

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

// Packets between the sites never leave by the default route. Behind every route through the
// TUN stands a hold (see package hostnet), and holds outlive everything but `gw down`:
//
//  1. At boot, before the network is up, gw-hold.service runs Hold.
//  2. `gw up` runs Hold first of all, before a mistake in the files can end it.
//  3. New adds the routes, and removes the holds of prefixes that the node has held and the
//     configuration no longer has.
//  4. A gateway that ends, in whichever way, removes nothing.
//
// What a node has held is recorded in its state directory. That list counts where the files
// do not tell which prefixes are other sites'.

// holdsFile lists in the state directory what the node holds, a prefix a line.
const holdsFile = "holds"

// Hold holds what belongs to the sites that this node is to link with, and returns it. The
// configuration need not be sound: sound says whether it was read without a mistake. If it
// was not, Hold takes the prefixes that the node has held before or, if it has held none,
// what the configuration still tells. It returns none and no error if that is nothing.
func Hold(cfg configs.Config, sound bool) ([]netip.Prefix, error) {
	prefixes := toHold(cfg, sound, configs.StateRoot, hostnet.Networks)
	return prefixes, hostnet.Hold(prefixes)
}

// RecordHeld adds prefixes to those that the node's next start knows as its own to remove. It
// is for a start that may fail before New records what it holds, and fails silently: New reports
// a directory that can't be written.
func RecordHeld(cfg configs.Config, prefixes []netip.Prefix) {
	if dir := cfg.Local.StateDir; dir != "" && len(prefixes) > 0 {
		_ = storeHeld(dir, merge(held(dir), prefixes))
	}
}

// toHold lists what Hold holds. root is where state directories are by default, and networks
// returns this host's addresses with the lengths of their networks.
func toHold(cfg configs.Config, sound bool, root string, networks func() ([]netip.Prefix, error)) []netip.Prefix {
	if sound && cfg.Self.Known {
		return parts.LinkedPrefixes(cfg)
	}
	former := held(cfg.Local.StateDir)
	if cfg.Local.StateDir == "" {
		lists, _ := filepath.Glob(filepath.Join(root, "*", holdsFile)) // the pattern is right
		for _, path := range lists {
			former = merge(former, held(filepath.Dir(path)))
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

// otherPrefixes are the subnets of all sites but this host's, as a configuration with
// mistakes has them. The host's site is known by the key or, without a key, by the host's
// addresses; otherPrefixes returns none if that does not tell. It leaves out what overlaps a
// network of the host: taken for another site's by mistake, it would cut the host off.
func otherPrefixes(cfg configs.Config, local []netip.Prefix) (out []netip.Prefix) {
	self := cfg.Self.Site
	if !cfg.Self.Known {
		self = -1
		for _, l := range local {
			i := parts.SiteOf(cfg, l.Addr())
			if i >= 0 && self >= 0 && i != self {
				return nil // it is at two sites
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

// held reads the list in a state directory. What can't be read is left out: a list is better
// than none, and none no reason to stop.
func held(dir string) (out []netip.Prefix) {
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, holdsFile))
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

// storeHeld replaces the list in a state directory.
func storeHeld(dir string, prefixes []netip.Prefix) error {
	if slices.Equal(held(dir), prefixes) {
		return nil // nothing to write: a full disk does not matter
	}
	var text strings.Builder
	for _, p := range prefixes {
		fmt.Fprintln(&text, p)
	}
	path := filepath.Join(dir, holdsFile)
	if err := replaceSynced(path, text.String()); err != nil {
		return fmt.Errorf("record which prefixes are held: %w", err)
	}
	return nil
}

// replaceSynced replaces a file such that a power failure leaves the old or the new text.
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

// merge adds to a list what it does not have, in the order of the prefixes.
func merge(list, more []netip.Prefix) []netip.Prefix {
	out := slices.Concat(list, more)
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
