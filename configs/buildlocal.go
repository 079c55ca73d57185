package configs

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// StateRoot is the directory in which a node has its state directory, under the node's name,
// unless local.state_dir names another one.
const StateRoot = "/var/lib/gw"

// Defaults of the local block.
const (
	defaultSocketDir = "/run/gw"
	defaultTUNName   = "gw0"
	defaultMTU       = 1420 // 1500 less WireGuard over IPv6: 40 + 8 + 32
	defaultLogLevel  = "info"
	defaultCapture   = 4 // MiB
)

// Bounds of an MTU: what every IPv4 host can receive (RFC 791, section 3.1),
// what IPv6 demands of a link (RFC 8200, section 5), and what a length field holds.
const (
	minMTU4 = 576
	minMTU6 = 1280
	maxMTU  = math.MaxUint16
)

// maxCapture is the most that may be kept for `gw capture`, in MiB. A reader takes as
// much again while it reads.
const maxCapture = 1024

// maxSocketPath is the room in sockaddr_un.sun_path without its final zero.
const maxSocketPath = 107

func (b *builder) local(opt Options) {
	raw := b.raw.local
	l := &b.cfg.Local
	l.Answers = AnswersVerdict
	l.TUN = TUN{Name: defaultTUNName, MTU: defaultMTU, Driver: DriverOffload}
	l.Log = Log{Level: defaultLogLevel}
	l.Capture = Capture{Memory: defaultCapture}
	b.limits(raw, &l.Limits)

	b.findKey(opt)
	if b.cfg.Self.Known {
		l.StateDir = filepath.Join(StateRoot, b.cfg.SelfNode().Name)
		l.Socket = filepath.Join(defaultSocketDir, b.cfg.SelfNode().Name+".sock")
		node := b.cfg.SelfNode()
		l.ListenPort = portOf(cmp.Or(node.Endpoint, node.SiblingEndpoint))
	}
	if t := raw.stateDir; t != nil && b.notEmpty(*t, "state_dir") {
		l.StateDir = relativeTo(t.at.Filename, t.s)
	}
	if t := raw.socket; t != nil && b.notEmpty(*t, "socket") {
		l.Socket = relativeTo(t.at.Filename, t.s)
		if len(l.Socket) > maxSocketPath {
			b.errorAt(t.at, "Choose a shorter path; the kernel allows no longer one.", "socket: the path has more than %d characters", maxSocketPath)
		}
	}
	if t := raw.lan; t != nil && b.ifname(*t, "lan") {
		l.LAN = t.s
	}
	if f := raw.check; f != nil {
		l.Check = f.on
	}
	if t := raw.answers; t != nil {
		answers := []string{string(AnswersVerdict), string(AnswersFull)}
		if !slices.Contains(answers, t.s) {
			b.errorAt(t.at, unknownHint(t.s, answers, "answers"), "unknown answers %q", t.s)
		}
		l.Answers = Answers(t.s)
	}
	if n := raw.listenPort; n != nil {
		if n.n < 0 || n.n > math.MaxUint16 {
			b.errorAt(n.at, "Choose a port from 1 to 65535, or 0 for any.", "listen_port of %d", n.n)
		} else {
			l.ListenPort = uint16(n.n)
		}
	}
	b.ownPair()
	b.tun(raw, &l.TUN)
	if t := raw.statusListen; t != nil {
		host, port, err := net.SplitHostPort(t.s)
		_, perr := parsePort(port)
		if err != nil || perr != nil || host != "" && host != "0.0.0.0" && host != "::" && !hostOK(host) {
			b.errorAt(t.at, "Write address and port: \"127.0.0.1:9770\".", "status listen: %q is not an address with a port", t.s)
		} else {
			l.Status.Listen = t.s
		}
	}
	if t := raw.auditTo; t != nil && b.notEmpty(*t, "audit to") {
		if l.Audit.To = t.s; t.s != "stdout" {
			l.Audit.To = relativeTo(t.at.Filename, t.s)
		}
	}
	if t := raw.logLevel; t != nil {
		levels := []string{"trace", "debug", "info", "warn", "error"}
		if !slices.Contains(levels, t.s) {
			b.errorAt(t.at, unknownHint(t.s, levels, "levels"), "unknown log level %q", t.s)
		}
		l.Log.Level = t.s
	}
	if n := raw.captureMemory; n != nil {
		if n.n < 0 || n.n > maxCapture {
			b.errorAt(n.at, fmt.Sprintf("Choose from 1 to %d MiB, or 0 to keep nothing.", maxCapture), "capture memory of %d", n.n)
		} else {
			l.Capture.Memory = int(n.n)
		}
	}
	if f := raw.logJSON; f != nil {
		l.Log.JSON = f.on
	}
}

func (b *builder) tun(raw rawLocal, tun *TUN) {
	if t := raw.tunName; t != nil && b.ifname(*t, "tun name") {
		tun.Name = t.s
	}
	if n := raw.tunMTU; n != nil {
		switch v6 := b.firstIPv6(); {
		case n.n < minMTU4 || n.n > maxMTU:
			b.errorAt(n.at, fmt.Sprintf("Choose between %d and %d; 1420 suits an Internet path of 1500.", minMTU4, maxMTU), "mtu of %d", n.n)
		case n.n < minMTU6 && v6 != "":
			b.errorAt(n.at, fmt.Sprintf("IPv6 needs %d at least (RFC 8200): raise it, or take the IPv6 subnets away.", minMTU6), "mtu of %d with IPv6 (%s)", n.n, v6)
		default:
			tun.MTU = int(n.n)
		}
	}
	if t := raw.tunDriver; t != nil {
		drivers := []string{string(DriverOffload), string(DriverWater)}
		if !slices.Contains(drivers, t.s) {
			b.errorAt(t.at, unknownHint(t.s, drivers, "drivers"), "unknown tun driver %q", t.s)
		}
		tun.Driver = Driver(t.s)
	}
	if f := raw.tunPersist; f != nil {
		tun.Persist = f.on
	}
	if t := raw.tunCongCtl; t != nil {
		// TCP_CA_NAME_MAX is 16 with the final zero (include/net/tcp.h).
		if t.s == "" || len(t.s) > 15 || strings.ContainsFunc(t.s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-') }) {
			b.errorAt(t.at, "Name one that `sysctl net.ipv4.tcp_available_congestion_control` shows, such as \"bbr\"; leave it out to keep the host's.", "%q can't be the name of a congestion control", t.s)
		} else {
			tun.CongCtl = t.s
		}
	}
}

// The limits' defaults, and what they may be. Fewer flows than the least are not
// worth a gateway; the most of all together is what 32 GB hold.
const (
	defaultFlows, minFlows, maxFlows       = 131072, 256, 1 << 24
	defaultRelays, maxRelays               = 4096, 1 << 16
	defaultTrunks, minTrunks, maxTrunksMiB = 64, 4, 1 << 16
	defaultFragments, maxFragmentsMiB      = 4, 1024
	defaultRecords, maxRecordsMiB          = 32, 4096
	defaultAudit, maxAuditMiB              = 1024, 1 << 20
)

func (b *builder) limits(raw rawLocal, l *Limits) {
	pick := func(n *number, name string, def, least, most int64) int64 {
		switch {
		case n == nil:
			return def
		case n.n < least || n.n > most:
			b.errorAt(n.at, fmt.Sprintf("Choose between %d and %d; %d suits most.", least, most, def), "limits %s of %d", name, n.n)
			return def
		}
		return n.n
	}
	l.Flows = int(pick(raw.maxFlows, "flows", defaultFlows, minFlows, maxFlows))
	l.Relays = int(pick(raw.maxRelays, "relays", defaultRelays, 1, maxRelays))
	l.Trunks = pick(raw.maxTrunks, "trunks", defaultTrunks, minTrunks, maxTrunksMiB) << 20
	l.Fragments = int(pick(raw.maxFragments, "fragments", defaultFragments, 1, maxFragmentsMiB)) << 20
	l.Audit = pick(raw.maxAudit, "audit", defaultAudit, 1, maxAuditMiB) << 20
	l.Records = pick(raw.maxRecords, "records", defaultRecords, 1, maxRecordsMiB) << 20
}

// firstIPv6 returns an IPv6 subnet of the network, or "". Addresses lie inside
// subnets, so there is no IPv6 address without one.
func (b *builder) firstIPv6() string {
	for _, n := range b.nets {
		if n.prefix.Addr().Is6() {
			return n.prefix.String()
		}
	}
	return ""
}

// ifname checks the name of a network interface as the kernel does
// (dev_valid_name).
func (b *builder) ifname(t text, what string) bool {
	if t.s == "" || len(t.s) > 15 || t.s == "." || t.s == ".." || strings.ContainsFunc(t.s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%' }) {
		b.errorAt(t.at, "Use at most 15 characters without blanks, \"/\", \":\" or \"%\".", "%s: %q can't be the name of an interface", what, t.s)
		return false
	}
	return true
}

func (b *builder) notEmpty(t text, name string) bool {
	if t.s == "" {
		b.errorAt(t.at, "Leave the line out for the default.", "%s is empty", name)
		return false
	}
	return true
}

// relativeTo resolves a path against the file that says it.
func relativeTo(file, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

// whole makes the remarks that need everything else.
func (b *builder) whole() {
	if b.hasErrors() {
		return
	}
	for i, s := range b.cfg.Sites {
		if len(b.cfg.Sites) < 2 || len(b.cfg.LinksOf(s.Name)) > 0 || (b.cfg.Self.Known && b.cfg.Self.Site != i) {
			continue
		}
		b.warnAt(b.siteAt[s.Name], "Add a link block that names it.", "site %q has no link: it reaches nobody", s.Name)
	}
	if len(b.cfg.Sites) == 1 {
		b.warnAt(b.siteAt[b.cfg.Sites[0].Name], "Add the other site and a link between them.", "site %q is alone: there is nobody to link it with", b.cfg.Sites[0].Name)
	}
	if len(b.cfg.Links) > 0 && len(b.cfg.Rules) == 0 {
		b.warnAt(nowhere, "Add a policy block with a rule; what no rule allows is denied.", "there is no rule: no connection is allowed")
	}
	for i, r := range b.cfg.Rules {
		if !b.linked(r) {
			b.warnAt(b.ruleAt[i], "Add a link between its sites.", "rule %q never matches: its sites have no link", r.Name)
		}
	}
	b.leftOut()
}

// linked tells whether any traffic of a rule has a link to cross.
func (b *builder) linked(r Rule) bool {
	for _, f := range r.From {
		for _, t := range r.To {
			if _, ok := b.cfg.linkBetween(f.Site, t.Site); ok {
				return true
			}
		}
	}
	return false
}
