package configs

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// shapes says of each setting which values Redact shows: those that look like what the setting
// is for, and none of a setting that is not here. Its keys are the names of blocks and setting.
var shapes = withShapes(map[string]func(cty.Value) bool{
	"site.subnets":               texts(isAddress),
	"site.node.public_key":       texts(isKey),
	"site.node.address":          texts(isAddress),
	"site.node.endpoint":         texts(isHostPort),
	"site.node.sibling_endpoint": texts(isHostPort),
	"site.pair.vip":              texts(isAddress),
	"site.pair.on_active":        nil, // commands hold whatever a cloud's interface asks for
	"site.pair.on_standby":       nil,

	"policy.rule.from":  texts(func(s string) bool { return plainName(s) || isAddress(s) }),
	"policy.rule.to":    texts(func(s string) bool { return plainName(s) || isAddress(s) }),
	"policy.rule.ports": texts(portsShape.MatchString),
	"policy.rule.mode":  texts(oneOf("auto", "relay", "route")),
})

// withShapes adds the settings that have rows.
func withShapes(m map[string]func(cty.Value) bool) map[string]func(cty.Value) bool {
	addShapes(m, localSettings, "local")
	addShapes(m, pairSettings, "site.pair")
	addShapes(m, linkSettings, "link")
	return m
}

var (
	portsShape     = regexp.MustCompile(`^(any|tcp|udp|icmp)(/[0-9]{1,5}(-[0-9]{1,5})?)?$`)
	pathShape      = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
	interfaceShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`)
)

// texts is the shape of a text for which ok holds.
func texts(ok func(string) bool) func(cty.Value) bool {
	return func(v cty.Value) bool { return v.Type() == cty.String && ok(v.AsString()) }
}

func isToggle(v cty.Value) bool { return v.Type() == cty.Bool }

func isNumber(v cty.Value) bool { return v.Type() == cty.Number }

func isAddress(s string) bool {
	a, err := netip.ParseAddr(s)
	_, prefixErr := netip.ParsePrefix(s)
	return err == nil && a.Zone() == "" || prefixErr == nil // a zone may be any text
}

// isKey holds for a key in the base64 of WireGuard, of which a reader of the file sees a
// fingerprint at most.
func isKey(s string) bool {
	_, err := ParseKey(s)
	return err == nil
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = parsePort(port)
	return err == nil && (host == "" || isAddress(host) || hostOK(host) && !strings.Contains(host, "%"))
}

func isPeriod(s string) bool {
	_, err := time.ParseDuration(s)
	return err == nil
}

func oneOf(words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

// plainName reports whether a site, node or rule may have the name; see nameOK.
func plainName(s string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	return s != "" && len(s) <= maxName && s[0] != '-' && s[0] != '_' && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) })
}
