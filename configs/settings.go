package configs

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
)

// A setting is one scalar of the local block. The rows of localSettings drive the names that may
// stand in the block, reading, defaults, bounds, canonical values, and the effect of a change. A
// new scalar takes a row here, a field of Local, and its explanation in reference.hcl.
type setting struct {
	path   string           // "flows" of the block limits is "limits.flows"
	effect Effect           // of a change on a running node
	field  func(*Local) any // a pointer to a string type, an integer or a bool
	form   string           // an example value for messages; empty for a bool
	def    any              // default: a string type or an int; nil leaves the zero value

	// The rest is for numbers.
	min, max int64
	unit     int64  // multiplies the number in the file: a MiB; 0 stands for 1
	hint     string // says what to do about a number out of bounds; "" for the usual text

	// For text: check returns the value to store. It reports a mistake and returns false
	// otherwise. Nil stores the text as it is.
	check func(*builder, text) (string, bool)
	// derived marks a field that is not the text itself: findKey sets it.
	derived bool
}

const mib = 1 << 20

// localSettings lists the settings of the local block in the order in which messages name them.
var localSettings = []setting{
	{path: "private_key_file", effect: EffectNone, // the key itself is the node's public_key
		field: func(l *Local) any { return &l.PrivateKeyFile }, form: "/etc/gw/private.key", derived: true},
	{path: "state_dir", effect: EffectRestart, field: func(l *Local) any { return &l.StateDir }, form: "/var/lib/gw",
		check: func(b *builder, t text) (string, bool) {
			return relativeTo(t.at.Filename, t.s), b.notEmpty(t, "state_dir")
		}},
	{path: "socket", effect: EffectRestart, field: func(l *Local) any { return &l.Socket }, form: "/run/gw/gw.sock", check: (*builder).socket},
	{path: "lan", effect: EffectRestart, field: func(l *Local) any { return &l.LAN }, form: "eth0",
		check: func(b *builder, t text) (string, bool) { return t.s, b.ifname(t, "lan") }},
	{path: "listen_port", effect: EffectRestart, field: func(l *Local) any { return &l.ListenPort }, form: "51820",
		max: math.MaxUint16, hint: "Choose a port from 1 to 65535, or 0 for any."},
	{path: "check", effect: EffectRestart, field: func(l *Local) any { return &l.Check }},
	{path: "answers", effect: EffectReload, field: func(l *Local) any { return &l.Answers }, form: "verdict", def: AnswersVerdict,
		check: knownWord("answers", "answers", string(AnswersVerdict), string(AnswersFull))},

	{path: "tun.name", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Name }, form: "gw0", def: "gw0",
		check: func(b *builder, t text) (string, bool) { return t.s, b.ifname(t, "tun name") }},
	{path: "tun.mtu", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.MTU }, form: "1420",
		def: 1420, // 1500 less WireGuard over IPv6: 40 + 8 + 32
		min: minMTU4, max: maxMTU, hint: fmt.Sprintf("Choose between %d and %d; 1420 suits an Internet path of 1500.", minMTU4, maxMTU)},
	{path: "tun.driver", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Driver }, form: "offload", def: DriverOffload,
		check: knownWord("tun driver", "drivers", string(DriverOffload), string(DriverWater))},
	{path: "tun.persist", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.Persist }},
	{path: "tun.congctl", effect: EffectRestart, field: func(l *Local) any { return &l.TUN.CongCtl }, form: "bbr", check: (*builder).congctl},

	{path: "status.listen", effect: EffectRestart, field: func(l *Local) any { return &l.Status.Listen }, form: "127.0.0.1:9770", check: (*builder).statusListen},

	{path: "audit.to", effect: EffectRestart, field: func(l *Local) any { return &l.Audit.To }, form: "/var/log/gw/audit.log", check: (*builder).auditTo},

	{path: "log.level", effect: EffectReload, field: func(l *Local) any { return &l.Log.Level }, form: "info", def: "info",
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

// split returns the block of the setting, "" for the local block itself, and its name there.
func (s setting) split() (block, name string) {
	if block, name, ok := strings.Cut(s.path, "."); ok {
		return block, name
	}
	return "", s.path
}

// what names the setting in a message: "mtu", "limits flows".
func (s setting) what() string {
	if block, name := s.split(); block == "tun" {
		return name
	}
	return strings.ReplaceAll(s.path, ".", " ")
}

// rawLocal holds what the files set in the local block, by path.
type rawLocal struct {
	texts   map[string]*text
	numbers map[string]*number
	toggles map[string]*toggle
}

func newRawLocal() rawLocal {
	return rawLocal{texts: map[string]*text{}, numbers: map[string]*number{}, toggles: map[string]*toggle{}}
}

// localSchema returns the names that may stand in the local block.
func localSchema() *bodySchema {
	s := &bodySchema{where: "the local block"}
	for _, row := range localSettings {
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

// readLocal reads the values of all local blocks.
func (d *decoder) readLocal(m *merged) rawLocal {
	raw := newRawLocal()
	for _, row := range localSettings {
		block, name := row.split()
		c := m.content
		if block != "" {
			c = m.sub(block)
		}
		switch row.field(new(Local)).(type) {
		case *bool:
			raw.toggles[row.path] = d.toggle(c, name)
		case *string, *Answers, *Driver:
			raw.texts[row.path] = d.text(c, name, row.form)
		default:
			raw.numbers[row.path] = d.number(c, name, row.form)
		}
	}
	return raw
}

// setDefaults fills in the defaults that depend on nothing else.
func (l *Local) setDefaults() {
	for _, row := range localSettings {
		switch def := row.def.(type) {
		case int:
			row.setNumber(l, int64(def))
		case nil:
		default:
			row.setText(l, fmt.Sprint(def))
		}
	}
}

// setLocal checks and stores what the files set.
func (b *builder) setLocal(l *Local) {
	for _, row := range localSettings {
		if on := b.raw.local.toggles[row.path]; on != nil {
			*row.field(l).(*bool) = on.on
		}
		if t := b.raw.local.texts[row.path]; t != nil && !row.derived {
			if row.check == nil {
				row.setText(l, t.s)
			} else if s, ok := row.check(b, *t); ok {
				row.setText(l, s)
			}
		}
		if n := b.raw.local.numbers[row.path]; n != nil {
			if n.n >= row.min && n.n <= row.max {
				row.setNumber(l, n.n)
				continue
			}
			hint := row.hint
			if hint == "" {
				hint = fmt.Sprintf("Choose between %d and %d; %d suits most.", row.min, row.max, row.def)
			}
			b.errorAt(n.at, hint, "%s of %d", row.what(), n.n)
		}
	}
}

func (s setting) setText(l *Local, v string) {
	switch f := s.field(l).(type) {
	case *string:
		*f = v
	case *Answers:
		*f = Answers(v)
	case *Driver:
		*f = Driver(v)
	}
}

func (s setting) setNumber(l *Local, n int64) {
	if s.unit != 0 {
		n *= s.unit
	}
	switch f := s.field(l).(type) {
	case *int:
		*f = int(n)
	case *int64:
		*f = n
	case *uint16:
		*f = uint16(n)
	}
}

// localAttrs lists the settings in canonical form.
func localAttrs(l Local) []Attr {
	out := make([]Attr, 0, len(localSettings))
	for _, row := range localSettings {
		out = append(out, Attr{Name: "local." + row.path, Value: row.canonical(&l)})
	}
	return out
}

func (s setting) canonical(l *Local) string {
	switch f := s.field(l).(type) {
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
	}
	panic("configs: the table holds a field of a type that it cannot print: " + s.path)
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
