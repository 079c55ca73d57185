package configs

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is a whole network as one node sees it. It is plain data with every
// default filled in and every check passed; copies share the slices, which
// no code changes after Load.
type Config struct {
	Files []string // the files read, in the order in which they were merged
	Sites []Site   // in the order of the files
	Links []Link
	Rules []Rule // in the order in which they are tried: the first match wins
	Local Local
	Self  Self
}

// Self says which node the private key belongs to, as indexes into
// Config.Sites and Site.Nodes. Known is false when no key was read
// (see [KeyPolicy]); the indexes mean nothing then.
type Self struct {
	Known bool
	Site  int
	Node  int
}

// Site is the hosts on one side of the firewall and the subnets they offer.
type Site struct {
	Name    string
	Subnets []netip.Prefix // masked, disjoint from each other and from other sites'
	Nodes   []Node         // one, or two that make a pair
	Pair    *Pair          // not nil exactly when there are two nodes
	Pos     Pos
}

// Node is one gw process.
type Node struct {
	Name      string
	PublicKey Key
	Addresses []netip.Addr // its own: at most one IPv4 and one IPv6, inside the site's subnets
	Endpoint  string       // host:port of its UDP socket as others dial it; "" when none can

	// SiblingEndpoint is host:port of the same socket as the other node of the
	// pair dials it, which may be in the site's own subnets. Endpoint when left
	// out. "" only in a site of one node, and in other sites.
	SiblingEndpoint string
}

// Pair is how the two nodes of a site stand in for each other.
type Pair struct {
	VIP       []netip.Prefix // LAN addresses with the LAN's prefix length, not masked; may be empty
	Heartbeat time.Duration  // between two heartbeats
	DeadAfter time.Duration  // silence after which the sibling counts as dead

	// OnActive and OnStandby are run, without a shell, when a node becomes active
	// or ceases to be: the program's absolute path and its arguments. Nil for none.
	OnActive, OnStandby []string
	CommandTimeout      time.Duration // after which a command is killed
	// Wake says whether flows with bytes in flight are woken by ICMP after a
	// takeover and after a link's return.
	Wake bool
}

// Link joins the nodes of two sites. A and B stand as written in the file.
type Link struct {
	A, B      string
	Initiator string        // A or B: the site that dials
	Keepalive time.Duration // whole seconds
	Pos       Pos
}

// Other returns the site at the other end of the link, and whether the link has
// an end at site at all.
func (l Link) Other(site string) (string, bool) {
	switch site {
	case l.A:
		return l.B, true
	case l.B:
		return l.A, true
	}
	return "", false
}

// Mode says how the TCP flows of a rule are carried.
type Mode string

// The modes of a rule.
const (
	ModeAuto  Mode = "auto"  // raw while small or chatty, relayed while bulk over a WAN
	ModeRelay Mode = "relay" // relayed from the first byte
	ModeRoute Mode = "route" // always raw
)

// Rule allows connections to be opened from From to To on Ports.
type Rule struct {
	Name  string
	From  []Endpoint
	To    []Endpoint
	Ports []PortRange
	Mode  Mode
	Pos   Pos
}

// Endpoint is one entry of a rule's from or to: a whole site, a node, or a prefix or
// address inside a site.
type Endpoint struct {
	Site     string         // the site it is or lies in
	Whole    bool           // the site itself was named
	Node     string         // the node that was named, "" for none
	Prefixes []netip.Prefix // the site's subnets, the node's addresses, or the one prefix (an address is a /32 or /128)
	// Except holds the own addresses of a whole site's nodes, which its name does not cover. It
	// is empty for a site that consists of nothing but its nodes.
	Except []netip.Addr
}

// String returns the entry as it is written in a file.
func (e Endpoint) String() string {
	switch {
	case e.Whole:
		return e.Site
	case e.Node != "":
		return e.Node
	}
	p := e.Prefixes[0]
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// IP protocol numbers (IANA) as they stand in PortRange.Proto.
const (
	ProtoAny  uint8 = 0 // every protocol
	ProtoICMP uint8 = 1 // stands for ICMPv6 (58) too
	ProtoTCP  uint8 = 6
	ProtoUDP  uint8 = 17
)

// PortRange is one entry of a rule's ports. For TCP and UDP, Lo and Hi bound
// the destination port, both included; for the others they are 0 and 65535.
type PortRange struct {
	Proto  uint8
	Lo, Hi uint16
}

// String returns the entry as it is written in a file.
func (p PortRange) String() string {
	var name string
	switch p.Proto {
	case ProtoAny:
		return "any"
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		name = "tcp"
	case ProtoUDP:
		name = "udp"
	default:
		name = fmt.Sprintf("proto-%d", p.Proto)
	}
	switch {
	case p.Lo == 0 && p.Hi == 65535:
		return name
	case p.Lo == p.Hi:
		return fmt.Sprintf("%s/%d", name, p.Lo)
	}
	return fmt.Sprintf("%s/%d-%d", name, p.Lo, p.Hi)
}

// Local is what may differ from machine to machine.
type Local struct {
	PrivateKeyFile string     // the file that the key was read from; "" when none was
	PrivateKey     PrivateKey // zero unless Self.Known
	StateDir       string
	Socket         string // control socket
	LAN            string // interface toward the site's hosts; "" when not told
	ListenPort     uint16 // UDP; 0 lets the kernel choose
	Check          bool   // each segment of a relay is held against what the other database has said
	Answers        Answers
	TUN            TUN
	Status         Status
	Audit          Audit
	Log            Log
	Capture        Capture
	Limits         Limits
}

// Answers is what this node tells other sites' gateways about a packet that they trace.
type Answers string

// The answers.
const (
	AnswersVerdict Answers = "verdict" // whether it passes here
	AnswersFull    Answers = "full"    // also the rule, its place in the file, the state and the sizes
)

// Driver names a way to drive the host's TUN device.
type Driver string

// The TUN drivers.
const (
	DriverOffload Driver = "offload" // whole segments of up to 64 KB
	DriverWater   Driver = "water"   // packet by packet, portable
)

// TUN is the host's tunnel device.
type TUN struct {
	Name    string
	MTU     int // bytes of an inner IP packet
	Driver  Driver
	Persist bool   // the device outlives the process
	CongCtl string // congestion control named in the routes, e.g. "bbr"; "" leaves the host's
}

// Status is where metrics are served.
type Status struct {
	Listen string // host:port; "" serves none
}

// Audit is where it is written who was connected to whom.
type Audit struct {
	To string // a file, or "stdout"; "" writes none
}

// Log is how much is logged and in which form.
type Log struct {
	Level string // trace, debug, info, warn or error
	JSON  bool
}

// Capture is how much of the recent past is kept for `gw capture`.
type Capture struct {
	Memory int // MiB; 0 keeps nothing
}

// Limits bound what a node holds. Reaching one is counted, and ends nothing that
// is there.
type Limits struct {
	Flows     int   // in the table
	Relays    int   // connections that are relayed at a time; the others are raw
	Trunks    int64 // bytes that trunks to other nodes hold; beyond, connections are raw
	Fragments int   // bytes of fragments that wait for the rest, each way
	Records   int64 // bytes of the file of records
	Audit     int64 // bytes of the audit log's file
}

// Pos is a place in a file; lines and columns count from 1.
type Pos struct {
	File   string
	Line   int
	Column int
}

// String returns file:line, as editors and operators like it.
func (p Pos) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// SelfSite returns this node's site. It panics unless Self.Known.
func (c Config) SelfSite() Site {
	if !c.Self.Known {
		panic("configs: SelfSite without a private key")
	}
	return c.Sites[c.Self.Site]
}

// SelfNode returns this node. It panics unless Self.Known.
func (c Config) SelfNode() Node {
	return c.SelfSite().Nodes[c.Self.Node]
}

// Site returns the site of that name.
func (c Config) Site(name string) (Site, bool) {
	for _, s := range c.Sites {
		if s.Name == name {
			return s, true
		}
	}
	return Site{}, false
}

// LinksOf returns the links that have an end at site.
func (c Config) LinksOf(site string) []Link {
	var out []Link
	for _, l := range c.Links {
		if _, ok := l.Other(site); ok {
			out = append(out, l)
		}
	}
	return out
}

// linkBetween returns the link between two sites.
func (c Config) linkBetween(a, b string) (Link, bool) {
	for _, l := range c.Links {
		if o, ok := l.Other(a); ok && o == b {
			return l, true
		}
	}
	return Link{}, false
}
