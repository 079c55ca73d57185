package reload

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// reloadable is red-1's Reloader and flow table, and the file that red-1 was started with.
type reloadable struct {
	*Reloader
	t       *testing.T
	table   *flow.Table
	path    *flow.Path
	applied []configs.Config
	audited []status.Reload
	dir     string
	text    string
}

func newReloadable(t *testing.T) *reloadable {
	t.Helper()
	text, keys, err := configs.Starter(configs.StarterOptions{
		RedName: "red", GrayName: "gray", Endpoint: "203.0.113.10:51820",
		RedSubnet: netip.MustParsePrefix("10.77.1.0/24"), GraySubnet: netip.MustParsePrefix("10.77.2.0/24"),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &reloadable{t: t, dir: t.TempDir(), text: string(text)}
	if err := os.Chmod(r.dir, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "red-1.key"), []byte(keys[0].Key.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(r.text)
	load := func() (configs.Config, configs.Diagnostics) { return configs.Load([]string{r.dir}, configs.Options{}) }
	cfg, diags := load()
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	j, err := parts.NewJudge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.table = flow.New(flow.Config{
		Self: cfg.Self.Site, Sites: parts.FlowSites(cfg), MTU: 1420, Judge: j, Now: func() time.Duration { return time.Minute },
	})
	r.path = flow.NewPath(r.table, hosttest.Silent{})
	r.Reloader = New(Config{
		Running: cfg, Load: load, Flows: r.table, Carrier: func(string) string { return "gray-1" },
		Apply: func(next configs.Config, j *parts.Judge) flow.Rejudged {
			r.applied = append(r.applied, next)
			return r.table.SetJudge(j)
		},
		Describe: func(c flow.Conn) status.Conn { return status.Conn{DestinationPort: c.Destination.Port()} },
		Audit:    func(got status.Reload) { r.audited = append(r.audited, got) },
		Logger:   hclog.NewNullLogger(),
	})
	return r
}

func (r *reloadable) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "site.hcl"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloadable) edited(pairs ...string) string {
	r.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(r.text, pairs[i]) {
			r.t.Fatalf("no %q in\n%s", pairs[i], r.text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(r.text)
}

// dial has a host of gray open a connection to one of red.
func (r *reloadable) dial(port uint16) {
	r.t.Helper()
	syn := wire.AppendTCP(make([]byte, 16), netip.MustParseAddrPort("10.77.2.10:40000"), netip.AddrPortFrom(netip.MustParseAddr("10.77.1.10"), port), 1, wire.SYN)
	before := r.table.Stats().Opened
	if _, err := r.path.Write([][]byte{syn}, 16); err != nil || r.table.Stats().Opened != before+1 {
		r.t.Fatalf("port %d: not opened (%v)", port, err)
	}
}

// TestReloadRefusesUnsafeFile: a reload applies nothing of a file that other users can change.
func TestReloadRefusesUnsafeFile(t *testing.T) {
	r := newReloadable(t)
	r.write(r.edited(`"tcp/5432"`, `"tcp/5433"`))
	file := filepath.Join(r.dir, "site.hcl")
	port := func() uint16 { return r.Running().Rules[0].Ports[0].Lo }
	if err := os.Chmod(file, 0o646); err != nil {
		t.Fatal(err)
	}
	got := r.Reload()
	if got.Applied || len(got.Mistakes) != 1 || !strings.Contains(got.Mistakes[0].Summary, "can be changed by every user") || port() != 5432 {
		t.Errorf("the policy allows port %d, and the answer is %+v", port(), got)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if got = r.Reload(); !got.Applied || port() != 5433 {
		t.Errorf("once it is safe, the policy allows port %d, and the answer is %+v", port(), got)
	}
}

// TestReloadAllOrNothing: what is wrong, or can't be applied to a node that runs, leaves
// everything as it is, says where and why; what is right is applied, and is what a plan
// said.
func TestReloadAllOrNothing(t *testing.T) {
	r := newReloadable(t)
	r.dial(5432)
	narrow := r.edited(`"tcp/5432"`, `"tcp/5433"`)
	quiet := "local {\n  log { level = \"error\" }\n}\n"
	plan := func(text string) (changes, restart, ends int, mistakes string) {
		p := r.Plan([]control.File{{Name: "/elsewhere/site.hcl", Text: []byte(text)}})
		for _, m := range p.Mistakes {
			mistakes += m.String()
		}
		return len(p.Changes), len(p.NeedsRestart()), len(p.Ends), mistakes
	}
	for _, tt := range []struct {
		name, text string
		mistake    string // in the answer
		restart    string
	}{
		{"syntax", narrow + "policy {\n", "site.hcl:", ""},
		{"a port that is none", r.edited(`"tcp/5432"`, `"tcp/54321x"`), "54321x", ""},
		{"another subnet", r.edited(`"tcp/5432"`, `"tcp/5433"`, `["10.77.2.0/24"]`, `["10.77.2.0/24", "10.77.3.0/24"]`), "", "site.gray.subnets"},
		{"another mtu", narrow + "local {\n  tun { mtu = 1300 }\n}\n", "", "local.tun.mtu"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.write(tt.text)
			got := r.Reload()
			var said strings.Builder
			for _, m := range got.Mistakes {
				said.WriteString(m.String())
			}
			var restart []string
			for _, c := range got.NeedsRestart() {
				restart = append(restart, c.Attribute)
			}
			if got.Applied || !strings.Contains(said.String(), tt.mistake) || (tt.mistake == "") != (said.Len() == 0) || strings.Join(restart, " ") != tt.restart {
				t.Errorf("%+v", got)
			}
			if len(r.applied) > 0 || len(r.audited) == 0 || !reflect.DeepEqual(r.audited[len(r.audited)-1], got) {
				t.Errorf("%d configurations were applied, and the audit log has %+v", len(r.applied), r.audited)
			}
			if st := r.table.Stats(); st.Revoked != 0 || r.Running().Rules[0].Ports[0].Lo != 5432 {
				t.Errorf("something was applied: %+v", st)
			}
			if _, n, _, mistakes := plan(tt.text); n != len(restart) || (mistakes == "") != (tt.mistake == "") {
				t.Errorf("the plan: %d need a restart, mistakes %q", n, mistakes)
			}
		})
	}

	if changes, restart, ends, mistakes := plan(narrow + quiet); restart != 0 || ends != 1 || changes != 2 || mistakes != "" {
		t.Errorf("%d changes, %d need a restart, %d connections end, mistakes %q", changes, restart, ends, mistakes)
	}
	if st := r.table.Stats(); st.Revoked != 0 {
		t.Error("a plan ended a connection")
	}
	r.write(narrow + quiet)
	if got := r.Reload(); !got.Applied || got.Revoked != 1 || got.Kept != 0 || len(got.Changes) != 2 {
		t.Errorf("%+v", got)
	}
	if n := len(r.applied); n != 1 || r.applied[0].Local.Log.Level != "error" || r.Running().Local.Log.Level != "error" {
		t.Errorf("%d configurations were applied", n)
	}
	r.dial(5433)
	if changes, _, ends, _ := plan(narrow + quiet); changes != 0 || ends != 0 {
		t.Errorf("what runs would change %d settings and end %d connections", changes, ends)
	}
	r.write(r.text)
	if got := r.Reload(); !got.Applied || got.Revoked != 1 || got.Resumed != 1 || len(r.applied) != 2 || r.Running().Local.Log.Level != "info" {
		t.Errorf("back again: %+v", got)
	}
}

// TestPlanOfAnotherNetwork: connections whose hosts would not belong to any site, or to
// none with a link, end too.
func TestPlanOfAnotherNetwork(t *testing.T) {
	r := newReloadable(t)
	r.dial(5432)
	text := r.edited("10.77.2.0/24", "10.79.2.0/24", "10.77.2.1", "10.79.2.1")
	p := r.Plan([]control.File{{Name: "/etc/gw/site.hcl", Text: []byte(text)}})
	if len(p.Ends) != 1 || p.Conns != 1 || p.Ends[0].Reason == wire.Denied.String() || p.Ends[0].DestinationPort != 5432 || len(p.NeedsRestart()) == 0 {
		t.Errorf("%+v", p)
	}
}
