package configs

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// A setting is one scalar of a block that is read into a T. The rows of localSettings, pairSettings
// and linkSettings drive the names that may stand in a block, reading, defaults, bounds, canonical
// values, the effect of a change, what a peer compares, and what a redacted file shows. A new
// scalar takes a row here, a field of T, and its explanation in reference.hcl.
//
// The settings that identify a site or a node, or whose check needs more than their own value, are
// read by the code of their block: public_key, address, endpoint, sibling_endpoint, mode.
type setting[T any] struct {
	path   string       // "flows" of the block limits is "limits.flows"
	effect Effect       // of a change on a running node
	agree  agreement    // of the nodes that share the block
	field  func(*T) any // a pointer to a string type, an integer, a duration or a bool
	form   string       // an example value for messages; empty for a bool
	def    any          // default: a string type, an int, a duration or a bool; nil leaves the zero value
	always bool         // gw render writes the value even if it is the default

	// The rest is for numbers and durations. Without a max any value is stored.
	min, max int64
	step     int64  // the value must be a multiple; 0 stands for 1
	unit     int64  // multiplies the number in the file: a MiB; 0 stands for 1
	hint     string // says what to do about a number out of bounds; "" for the usual text

	// For text: check returns the value to store. It reports a mistake and returns false
	// otherwise. Nil stores the text as it is.
	check func(*builder, text) (string, bool)
	// shape reports whether a redacted file shows a text.
	shape func(string) bool
	// derived marks a field that the code of the block sets.
	derived bool
}

// agreement says what comes of a setting that differs between two nodes that share its block: both
// nodes of a pair, or the nodes of both ends of a link.
type agreement uint8

const (
	// alone: the nodes do not compare the setting.
	alone agreement = iota
	// shown: a difference is shown.
	shown
	// refused: a difference would fail silently later, so no session starts with it.
	refused
)

const mib = 1 << 20

// localSettings lists the settings of the local block in the order in which messages name them.
var localSettings = []setting[Local]{
	{path: "private_key_file", effect: EffectNone, // the key itself is the node's public_key
		field: func(l *Local) any { return &l.PrivateKeyFile }, form: "/etc/gw/private.key", shape: pathShape.MatchString, derived: true},
	{path: "state_dir", effect: EffectRestart, field: func(l *Local) any { return &l.StateDir }, form: "/var/lib/gw", shape: pathShape.MatchString,
		check: func(b *builder, t text) (string, bool) {
			return relativeTo(t.at.Filename, t.s), b.notEmpty(t, "state_dir")
		}},
	{path: "socket", effect: EffectRestart, field: func(l *Local) any { return &l.Socket }, form: "/run/gw/gw.sock", shape: pathShape.MatchString, check: (*builder).socket},
	{path: "lan", effect: EffectRestart, field: func(l *Local) any { return &l.LAN }, form: "eth0", shape: interfaceShape.MatchString,
		check: func(b *builder, t text) (string, bool) { return t.s, b.ifname(t, "lan") }},
	{path: "listen_port", effect: EffectRestart, field: func(l *Local) any { return &l.ListenPort }, form: "51820",
		max: math.MaxUint16, hint: "Choose a port from 1 to 65535, or 0 for any."},
	{path: "check", effect: EffectRestart, field: func(l *Local) any { return &l.Check }},
	{path: "answers", effect: EffectReload, field: func(l *Local) any { return &l.Answers }, form: "verdict", shape: oneOf(string(AnswersVerdict), string(AnswersFull)), def: AnswersVerdict,
		check: knownWord("answers", "answers", string(AnswersVerdict), string(AnswersFull))},

	{path: "tun.name", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Name }, form: "gw0", shape: interfaceShape.MatchString, def: "gw0",
		check: func(b *builder, t text) (string, bool) { return t.s, b.ifname(t, "tun name") }},
	{path: "tun.mtu", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.MTU }, form: "1420",
		def: 1420, // 1500 less WireGuard over IPv6: 40 + 8 + 32
		min: minMTU4, max: maxMTU, hint: fmt.Sprintf("Choose between %d and %d; 1420 suits an Internet path of 1500.", minMTU4, maxMTU)},
	{path: "tun.driver", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Driver }, form: "offload", shape: oneOf(string(DriverOffload), string(DriverWater)), def: DriverOffload,
		check: knownWord("tun driver", "drivers", string(DriverOffload), string(DriverWater))},
	{path: "tun.persist", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Persist }},
	{path: "tun.congctl", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.CongCtl }, form: "bbr", shape: plainName, check: (*builder).congctl},

	{path: "status.listen", effect: EffectRestart, field: func(l *Local) any { return &l.Status.Listen }, form: "127.0.0.1:9770", shape: isHostPort, check: (*builder).statusListen},

	{path: "audit.to", effect: EffectRestart, field: func(l *Local) any { return &l.Audit.To }, form: "/var/log/gw/audit.log", shape: pathShape.MatchString, check: (*builder).auditTo},

	{path: "log.level", effect: EffectReload, field: func(l *Local) any { return &l.Log.Level }, form: "info", shape: oneOf("trace", "debug", "info", "warn", "error"), def: "info",
		check: knownWord("log level", "levels", "trace", "debug", "info", "warn", "error")},
	{path: "log.json", effect: EffectRestart, field: func(l *Local) any { return &l.Log.JSON }},

	// A reader of the capture takes as much memory again while it reads.
	{path: "capture.memory", effect: EffectRestart, field: func(l *Local) any { return &l.Capture.Memory }, form: "4", def: 4,
		max: 1024, hint: "Choose from 1 to 1024 MiB, or 0 to keep nothing."},

	// Fewer flows than the least are not worth a gateway; the most of all together is what 32 GB
	// hold.
	{path: "limits.flows", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Flows }, form: "131072", def: 131072, min: 256, max: 1 << 24},
	{path: "limits.relays", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Relays }, form: "4096", def: 4096, min: 1, max: 1 << 16},
	{path: "limits.trunks", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Trunks }, form: "64", def: 64, min: 4, max: 1 << 16, unit: mib},
	{path: "limits.fragments", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Fragments }, form: "4", def: 4, min: 1, max: 1024, unit: mib},
	{path: "limits.records", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Records }, form: "32", def: 32, min: 1, max: 4096, unit: mib},
	{path: "limits.audit", effect: EffectRestart, field: func(l *Local) any { return &l.Limits.Audit }, form: "1024", def: 1024, min: 1, max: 1 << 20, unit: mib},
}

// pairSettings lists the scalars of the pair block. DeadAfter has bounds that depend on Heartbeat;
// see timing.
var pairSettings = []setting[Pair]{
	// Below the shortest heartbeat a process that merely waits for a CPU looks dead.
	{path: "heartbeat", effect: EffectRestart, agree: refused, field: func(p *Pair) any { return &p.Heartbeat }, form: "50ms", always: true,
		def: 50 * time.Millisecond, min: int64(10 * time.Millisecond), max: int64(maxDeadAfter / 2), hint: "Choose between 10ms and 5s; 50ms is usual."},
	// The sibling is dead after three missed heartbeats.
	{path: "dead_after", effect: EffectRestart, agree: refused, field: func(p *Pair) any { return &p.DeadAfter }, form: "150ms", always: true,
		def: 150 * time.Millisecond},
	{path: "command_timeout", effect: EffectRestart, agree: shown, field: func(p *Pair) any { return &p.CommandTimeout }, form: "30s",
		def: 30 * time.Second, min: int64(time.Second), max: int64(10 * time.Minute), hint: "Choose between 1s and 10m; 30s is usual."},
	{path: "wake", effect: EffectRestart, agree: shown, field: func(p *Pair) any { return &p.Wake }, def: true},
}

// linkSettings lists the scalars of the link block.
var linkSettings = []setting[Link]{
	{path: "initiator", effect: EffectRestart, agree: shown, field: func(l *Link) any { return &l.Initiator }, form: "red", always: true,
		shape: plainName, derived: true}, // links checks it
	// WireGuard's persistent keepalive is a 16-bit number of seconds.
	{path: "keepalive", effect: EffectReload, agree: shown, field: func(l *Link) any { return &l.Keepalive }, form: "5s", always: true,
		def: 5 * time.Second, min: int64(time.Second), max: int64(math.MaxUint16 * time.Second), step: int64(time.Second),
		hint: "Choose whole seconds, below the time after which the firewall forgets an idle UDP flow (often 30s): \"5s\"."},
}

// split returns the block of the setting, "" for the block of the table itself, and its name there.
func (s setting[T]) split() (block, name string) {
	if block, name, ok := strings.Cut(s.path, "."); ok {
		return block, name
	}
	return "", s.path
}

// what names the setting in a message: "mtu", "limits flows".
func (s setting[T]) what() string {
	if block, name := s.split(); block == "tun" {
		return name
	}
	return strings.ReplaceAll(s.path, ".", " ")
}

// rawSettings holds what the files set, by path.
type rawSettings struct {
	texts   map[string]*text
	numbers map[string]*number
	periods map[string]*period
	toggles map[string]*toggle
}

func newRawSettings() rawSettings {
	return rawSettings{texts: map[string]*text{}, numbers: map[string]*number{}, periods: map[string]*period{}, toggles: map[string]*toggle{}}
}

// addNames adds the names of a table to what may stand in its block.
func addNames[T any](rows []setting[T], s *bodySchema) *bodySchema {
	for _, row := range rows {
		block, name := row.split()
		if block == "" {
			s.attrs = append(s.attrs, name)
			continue
		}
		if _, ok := s.block(block); !ok {
			s.blocks = append(s.blocks, blockSchema{name: block, body: &bodySchema{where: "the " + block + " block"}})
		}
		b, _ := s.block(block)
		b.body.attrs = append(b.body.attrs, name)
	}
	return s
}

// readSettings reads the values of a table from a block and from the blocks inside it.
func readSettings[T any](d *decoder, rows []setting[T], c content, sub func(block string) content) rawSettings {
	raw := newRawSettings()
	for _, row := range rows {
		block, name := row.split()
		c := c
		if block != "" {
			c = sub(block)
		}
		switch row.field(new(T)).(type) {
		case *bool:
			raw.toggles[row.path] = d.toggle(c, name)
		case *string, *Answers, *Driver:
			raw.texts[row.path] = d.text(c, name, row.form)
		case *time.Duration:
			raw.periods[row.path] = d.period(c, name, row.form)
		default:
			raw.numbers[row.path] = d.number(c, name, row.form)
		}
	}
	return raw
}

// setDefaults fills in the defaults that depend on nothing else.
func setDefaults[T any](rows []setting[T], into *T) {
	for _, row := range rows {
		switch def := row.def.(type) {
		case int:
			row.setNumber(into, int64(def))
		case time.Duration:
			row.setNumber(into, int64(def))
		case bool:
			*row.field(into).(*bool) = def
		case nil:
		default:
			row.setText(into, fmt.Sprint(def))
		}
	}
}

// setValues checks and stores what the files set.
func setValues[T any](b *builder, rows []setting[T], raw rawSettings, into *T) {
	for _, row := range rows {
		if on := raw.toggles[row.path]; on != nil {
			*row.field(into).(*bool) = on.on
		}
		if t := raw.texts[row.path]; t != nil && !row.derived {
			if row.check == nil {
				row.setText(into, t.s)
			} else if s, ok := row.check(b, *t); ok {
				row.setText(into, s)
			}
		}
		if n := raw.numbers[row.path]; n != nil {
			row.setBounded(b, into, n.n, n.n, n.at)
		}
		if p := raw.periods[row.path]; p != nil {
			row.setBounded(b, into, int64(p.d), p.d, p.at)
		}
	}
}

// setBounded stores a number within the bounds. Otherwise it reports the value as it was written.
func (s setting[T]) setBounded(b *builder, into *T, n int64, written any, at hcl.Range) {
	if s.max == 0 || n >= s.min && n <= s.max && n%max(s.step, 1) == 0 {
		s.setNumber(into, n)
		return
	}
	hint := s.hint
	if hint == "" {
		hint = fmt.Sprintf("Choose between %d and %d; %d suits most.", s.min, s.max, s.def)
	}
	b.errorAt(at, hint, "%s of %v", s.what(), written)
}

func (s setting[T]) setText(into *T, v string) {
	switch f := s.field(into).(type) {
	case *string:
		*f = v
	case *Answers:
		*f = Answers(v)
	case *Driver:
		*f = Driver(v)
	}
}

func (s setting[T]) setNumber(into *T, n int64) {
	if s.unit != 0 {
		n *= s.unit
	}
	switch f := s.field(into).(type) {
	case *int:
		*f = int(n)
	case *int64:
		*f = n
	case *uint16:
		*f = uint16(n)
	case *time.Duration:
		*f = time.Duration(n)
	}
}

// settingAttrs lists the settings of a table in canonical form.
func settingAttrs[T any](rows []setting[T], prefix string, of *T) []Attr {
	out := make([]Attr, 0, len(rows))
	for _, row := range rows {
		out = append(out, Attr{Name: prefix + "." + row.path, Value: row.canonical(of), Fatal: row.agree == refused})
	}
	return out
}

func (s setting[T]) canonical(of *T) string {
	switch f := s.field(of).(type) {
	case *string:
		return *f
	case *Answers:
		return string(*f)
	case *Driver:
		return string(*f)
	case *bool:
		return fmt.Sprint(*f)
	case *int:
		return fmt.Sprint(*f)
	case *int64:
		return fmt.Sprint(*f)
	case *uint16:
		return fmt.Sprint(*f)
	case *time.Duration:
		return f.String()
	}
	panic("configs: the table holds a field of a type that it cannot print: " + s.path)
}

// writeSettings writes the settings of a table that differ from their defaults, and those that are
// always written. None of their texts needs to be escaped.
func writeSettings[T any](w *strings.Builder, rows []setting[T], of *T) {
	var defaults T
	setDefaults(rows, &defaults)
	for _, row := range rows {
		value := row.canonical(of)
		if !row.always && value == row.canonical(&defaults) {
			continue
		}
		switch row.field(of).(type) {
		case *bool, *int, *int64, *uint16:
			fmt.Fprintf(w, "%s = %s\n", row.path, value)
		default:
			fmt.Fprintf(w, "%s = %q\n", row.path, value)
		}
	}
}

// addEffects adds the effects of a table's settings; prefix is the pattern of their block.
func addEffects[T any](into map[string]Effect, rows []setting[T], prefix string) {
	for _, row := range rows {
		into[prefix+"."+row.path] = row.effect
	}
}

// addShapes adds what a redacted file shows of a table's settings.
func addShapes[T any](into map[string]func(cty.Value) bool, rows []setting[T], prefix string) {
	for _, row := range rows {
		shape := isNumber
		switch row.field(new(T)).(type) {
		case *bool:
			shape = isToggle
		case *time.Duration:
			shape = texts(isPeriod)
		case *string, *Answers, *Driver:
			shape = texts(row.shape)
		}
		into[prefix+"."+row.path] = shape
	}
}

// knownWord returns a check that accepts the known words only.
func knownWord(what, plural string, known ...string) func(*builder, text) (string, bool) {
	return func(b *builder, t text) (string, bool) {
		if !slices.Contains(known, t.s) {
			b.errorAt(t.at, unknownHint(t.s, known, plural), "unknown %s %q", what, t.s)
			return "", false
		}
		return t.s, true
	}
}

func (b *builder) socket(t text) (string, bool) {
	if !b.notEmpty(t, "socket") {
		return "", false
	}
	path := relativeTo(t.at.Filename, t.s)
	if len(path) > maxSocketPath {
		b.errorAt(t.at, "Choose a shorter path; the kernel allows no longer one.", "socket: the path has more than %d characters", maxSocketPath)
		return "", false
	}
	return path, true
}

func (b *builder) congctl(t text) (string, bool) {
	// TCP_CA_NAME_MAX is 16 with the final zero (include/net/tcp.h).
	if t.s == "" || len(t.s) > 15 || strings.ContainsFunc(t.s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-') }) {
		b.errorAt(t.at, "Name one that `sysctl net.ipv4.tcp_available_congestion_control` shows, such as \"bbr\"; leave it out to keep the host's.", "%q can't be the name of a congestion control", t.s)
		return "", false
	}
	return t.s, true
}

func (b *builder) statusListen(t text) (string, bool) {
	host, port, err := net.SplitHostPort(t.s)
	_, perr := parsePort(port)
	if err != nil || perr != nil || host != "" && host != "0.0.0.0" && host != "::" && !hostOK(host) {
		b.errorAt(t.at, "Write address and port: \"127.0.0.1:9770\".", "status listen: %q is not an address with a port", t.s)
		return "", false
	}
	return t.s, true
}

func (b *builder) auditTo(t text) (string, bool) {
	if !b.notEmpty(t, "audit to") {
		return "", false
	}
	if t.s == "stdout" {
		return t.s, true
	}
	return relativeTo(t.at.Filename, t.s), true
}
