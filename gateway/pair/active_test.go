package pair

import (
	"cmp"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/onewaylink/gw/ha"
)

// steps notes which variable changes when, by the names of docs/design.md.
type steps struct {
	*node
	leads bool
	order []string
}

func (s *steps) note(variable string) {
	if led := s.Pair.leads.Load(); led != s.leads { // since the step before
		s.leads = led
		s.order = append(s.order, "pair.Pair.leads")
	}
	if variable != "" {
		s.order = append(s.order, variable)
	}
}

// take returns the steps that were noted.
func (s *steps) take() []string {
	s.note("")
	out := s.order
	s.order = nil
	return out
}

func (s *steps) Suspend(bool)         { s.note("pulse.Pulse.suspended") }
func (s *steps) Pause(bool)           { s.note("flow.Path.paused") }
func (s *steps) SetPass(func([]byte)) { s.note("flow.Path.pass") }
func (s *steps) SetStandby(bool)      { s.note("flow.Table.standby") }
func (s *steps) Hold()                { s.note("vip.Keeper.held") }
func (s *steps) Drop()                { s.note("vip.Keeper.held") }
func (s *steps) Held() bool           { return false }
func (s *steps) MAC() net.HardwareAddr {
	return nil
}

// boardSteps is the Board, whose method has the name of the table's.
type boardSteps struct{ *steps }

func (b boardSteps) SetStandby(bool)           { b.note("sites.Board.standby") }
func (b boardSteps) SetCarrier(string, string) {}
func (b boardSteps) Wake(string)               {}

// documented reads the order of a column in the table of docs/design.md.
func documented(t *testing.T, column string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "### Is this node active?")
	if !ok {
		t.Fatal("docs/design.md has no table of what makes a node active")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	type step struct {
		number   int
		variable string
	}
	var out []step
	at := -1
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		if at < 0 {
			at = slices.Index(cells, column)
			continue
		}
		if len(cells) <= at {
			continue
		}
		if n, err := strconv.Atoi(cells[at]); err == nil {
			out = append(out, step{n, cells[0]})
		}
	}
	slices.SortFunc(out, func(a, b step) int { return cmp.Compare(a.number, b.number) })
	var names []string
	for _, s := range out {
		names = append(names, s.variable)
	}
	return names
}

// The order in which act.go changes what makes a node active is the documented one.
func TestOrderIsDocumented(t *testing.T) {
	var s *steps
	w := newNet(t, func(c *Config) {
		if c.Self.Name == "red-1" {
			s = &steps{node: c.Flows.(*node)}
			c.Flows, c.Path, c.Process, c.Address, c.Board = s, s, s, s, boardSteps{s}
		}
	})
	s.node = w.nodes["red-1"]
	p := s.Pair
	p.mu.Lock()
	defer p.mu.Unlock()
	s.take() // of StandBy
	for _, tt := range []struct {
		column string
		kind   ha.Kind
	}{{"prepares", ha.Prepare}, {"active", ha.Activate}, {"standby", ha.Deactivate}} {
		p.act([]ha.Output{{Kind: tt.kind, Epoch: 1}})
		if got, want := s.take(), documented(t, tt.column); !slices.Equal(got, want) {
			t.Errorf("%s: act.go changes\n%q, docs/design.md says\n%q", tt.column, got, want)
		}
	}
}
