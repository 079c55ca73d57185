package configs

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// unseen are the fields of a Config that no setting stands for, and why not.
var unseen = map[string]string{
	"Files":            "where it was read from",
	"Self":             "seen as node",
	"Sites.Pos":        "where it stands",
	"Links.Pos":        "where it stands",
	"Rules.Pos":        "where it stands",
	"Local.PrivateKey": "seen by the public key",
}

// TestEveryFieldIsClassified changes one field of the configuration after the other.
// One that is new, and that a reload would pass over in silence, fails.
func TestEveryFieldIsClassified(t *testing.T) {
	load := func() Config { return as(mustLoad(t, read(t, "testdata/full.hcl")), 0, 0) }
	before := load().attrs()
	for name := range before {
		if _, ok := effects[pattern(strings.Split(name, "."))]; !ok {
			t.Errorf("%s has no effect: add it to effects in changes.go", name)
		}
	}
	seen := 0
	var walk func(path string, v func(*Config) reflect.Value, typ reflect.Type)
	walk = func(path string, v func(*Config) reflect.Value, typ reflect.Type) {
		if unseen[path] != "" {
			return
		}
		if typ.Kind() == reflect.Struct {
			for i := range typ.NumField() {
				name := strings.TrimPrefix(path+"."+typ.Field(i).Name, ".")
				walk(name, func(c *Config) reflect.Value { return v(c).Field(i) }, typ.Field(i).Type)
			}
			return
		}
		cfg := load()
		field := v(&cfg)
		switch x := field.Addr().Interface().(type) {
		case *string:
			*x += "x"
		case *bool:
			*x = !*x
		case *int:
			*x++
		case *uint16:
			*x++
		case *time.Duration:
			*x += time.Second
		case *Key:
			x[0] ^= 1
		case *int64:
			*x++
		case *Mode:
			*x = ModeRoute
		case *Driver:
			*x = DriverOffload
		case *Answers:
			*x = AnswersVerdict
		case *[]string:
			*x = append(*x, "x")
		case *[]netip.Addr:
			*x = append(*x, netip.MustParseAddr("10.77.1.77"))
		case *[]netip.Prefix:
			*x = append(*x, netip.MustParsePrefix("10.99.0.0/16"))
		case *[]Endpoint:
			*x = append(*x, Endpoint{Site: "gray", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.2.77/32")}})
		case *[]PortRange:
			*x = append(*x, PortRange{Proto: ProtoTCP, Lo: 7, Hi: 7})
		case **Pair:
			walk(path, func(c *Config) reflect.Value { return v(c).Elem() }, reflect.TypeFor[Pair]())
			return
		default:
			if typ.Kind() != reflect.Slice || field.Len() == 0 {
				t.Fatalf("%s: this test can't change a %v", path, typ)
			}
			walk(path, func(c *Config) reflect.Value { return v(c).Index(0) }, typ.Elem())
			return
		}
		seen++
		if cmp.Equal(before, cfg.attrs()) {
			t.Errorf("a change of %s is not seen: add it to what changes.go compares, and classify it", path)
		}
	}
	walk("", func(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }, reflect.TypeFor[Config]())
	if seen < 30 {
		t.Errorf("only %d fields were changed", seen)
	}
}

// TestEverySettingIsClassified goes by the names that may stand in a file.
func TestEverySettingIsClassified(t *testing.T) {
	left := map[string]bool{"node": true, "site.*.nodes": true, "policy.order": true} // none has an attribute
	for name := range effects {
		left[name] = !left[name]
	}
	var walk func(prefix string, s *bodySchema)
	walk = func(prefix string, s *bodySchema) {
		for _, a := range s.attrs {
			if _, ok := effects[prefix+a]; !ok {
				t.Errorf("%s%s has no effect: add it to effects in changes.go", prefix, a)
			}
			delete(left, prefix+a)
		}
		for _, b := range s.blocks {
			walk(prefix+b.name+"."+strings.Repeat("*.", len(b.labels)), b.body)
		}
	}
	walk("", rootSchema)
	for name, unknown := range left {
		if unknown {
			t.Errorf("%s is classified, and no such setting exists", name)
		}
	}
}

func TestChanges(t *testing.T) {
	text := read(t, "testdata/full.hcl")
	base := as(mustLoad(t, text), 0, 0)
	edit := func(pairs ...string) Config {
		out := strings.NewReplacer(pairs...).Replace(text)
		if out == text {
			t.Fatalf("nothing to replace: %q", pairs)
		}
		return as(mustLoad(t, out), 0, 0)
	}
	const rule = `rule "replication" {`
	const admin = `rule "admin" {
    from  = ["red"]
    to    = ["gray"]
    ports = ["tcp/22"]
  }
  `
	added := Change{
		Name: "policy.rule.admin", Kind: Added, Effect: EffectReload,
		New: "from = red; mode = auto; ports = tcp/22; to = gray",
	}
	for _, tt := range []struct {
		name    string
		from    Config
		to      Config
		want    []Change
		comment string
	}{
		{"nothing", base, edit("dead_after = \"300ms\"\n", "dead_after = \"300ms\"\n\n# a remark\n"), nil, ""},
		{"sets in another order", base, edit(`["10.77.1.10", "fd77:1::/80"]`, `["fd77:1::/80", "10.77.1.10"]`), nil, ""},
		{"a rule more", base, edit(rule, admin+rule), []Change{added}, "its place among the others is no change of theirs"},
		{"a rule less", edit(rule, admin+rule), base, []Change{{Name: added.Name, Kind: Removed, Old: added.New, Effect: EffectReload}}, ""},
		{"a rule's ports", base, edit(`"tcp/5432", `, ""), []Change{{
			Name: "policy.rule.replication.ports", Kind: Changed, Effect: EffectReload,
			Old: "any, icmp, tcp, tcp/5000-5010, tcp/5432, udp, udp/53", New: "any, icmp, tcp, tcp/5000-5010, udp, udp/53",
		}}, ""},
		{"log and mtu", base, edit(`"debug"`, `"warn"`, "1280", "1300"), []Change{
			{Name: "local.log.level", Kind: Changed, Old: "debug", New: "warn", Effect: EffectReload},
			{Name: "local.tun.mtu", Kind: Changed, Old: "1280", New: "1300", Effect: EffectRestart},
		}, ""},
		{"another site's endpoint goes", base, func() Config {
			c := edit("20s", "25s")
			c.Sites[1].Nodes[0].Endpoint = ""
			return c
		}(), []Change{
			{Name: "link.gray.red.keepalive", Kind: Changed, Old: "20s", New: "25s", Effect: EffectReload},
			{Name: "site.gray.node.gray-1.endpoint", Kind: Removed, Old: "[2001:db8::10]:51820", Effect: EffectRestart},
		}, ""},
		{"the pair, seen from its site", base, edit("100ms", "90ms"), []Change{
			{Name: "site.red.pair.heartbeat", Kind: Changed, Old: "100ms", New: "90ms", Effect: EffectRestart},
		}, ""},
		{"the pair, seen from the other site", as(base, 1, 0), as(edit("100ms", "90ms"), 1, 0), []Change{
			{Name: "site.red.pair.heartbeat", Kind: Changed, Old: "100ms", New: "90ms", Effect: EffectNone},
		}, ""},
		{"another node's key", base, as(base, 0, 1), []Change{
			{Name: "node", Kind: Changed, Old: "red-1", New: "red-2", Effect: EffectRestart},
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Changes(tt.from, tt.to)); d != "" {
				t.Errorf("(-want +got)\n%s%s", d, tt.comment)
			}
		})
	}

	// A node that comes is one thing.
	next := as(mustLoad(t, text), 0, 0)
	next.Sites[1].Nodes = append(next.Sites[1].Nodes, Node{Name: "gray-2", Addresses: []netip.Addr{netip.MustParseAddr("10.77.2.2")}})
	got := Changes(base, next)
	if len(got) != 2 || got[0].Name != "site.gray.node.gray-2" || got[0].Kind != Added || got[1].Name != "site.gray.nodes" {
		t.Errorf("%+v", got)
	}
}

// TestLoadFiles: a text that was read elsewhere is that of the node that is named, whose
// key is not asked for.
func TestLoadFiles(t *testing.T) {
	text := read(t, "testdata/full.hcl")
	files := []File{{Name: "/etc/gw/site.hcl", Text: []byte(text)}}
	cfg, diags := LoadFiles(files, Options{Node: "red-2"})
	if diags.HasErrors() || cfg.SelfNode().Name != "red-2" || cfg.Local.Socket != "/etc/gw/gw.sock" {
		t.Errorf("%v: %+v", diags.Err(), cfg.Local)
	}
	if _, diags = LoadFiles(files, Options{Node: "red-3"}); !diags.HasErrors() || !strings.Contains(diags.Err().Error(), `no node "red-3"`) {
		t.Errorf("red-3: %v", diags.Err())
	}
}
