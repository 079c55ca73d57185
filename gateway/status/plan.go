package status

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Effect is what it takes until a changed setting counts.
type Effect string

const (
	// EffectNone concerns other nodes only, or nothing until the next start.
	EffectNone Effect = "none"
	// EffectReload is applied by a reload.
	EffectReload Effect = "reload"
	// EffectRestart requires a restart of the process.
	EffectRestart Effect = "restart"
)

// Change is a setting, or a thing with all its settings, in which a configuration
// differs from the one that runs.
type Change struct {
	// Attribute is a dotted name, like policy.rule.replication.ports.
	Attribute string `json:"attribute"`
	// Kind is added, removed or changed.
	Kind   string `json:"kind"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	Effect Effect `json:"effect"`
}

// Mistake keeps a configuration from being used.
type Mistake struct {
	// File, Line and Column are left out where it concerns no place in a file.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Summary string `json:"summary"`
	// Detail says what to do.
	Detail string `json:"detail,omitempty"`
}

// String is file:line,column and what is wrong there.
func (m Mistake) String() string {
	if m.File == "" {
		return m.Summary
	}
	return fmt.Sprintf("%s:%d,%d: %s", m.File, m.Line, m.Column, m.Summary)
}

// Config is what Plan and Reload say of a configuration.
type Config struct {
	Node string `json:"node"`
	Site string `json:"site"`
	// Mistakes, where there are any, are all that is said.
	Mistakes []Mistake `json:"mistakes"`
	Changes  []Change  `json:"changes"`
	// Agreement is left out where no other node compares what changes.
	Agreement *Agreement `json:"agreement,omitempty"`
}

// Agreement is about changed settings that other nodes compare with their own.
type Agreement struct {
	// Refused are those with which no link and no pair starts until both of its nodes have
	// them; Pair says that only the two nodes of the site compare these.
	Refused []string `json:"refused"`
	Pair    bool     `json:"pair"`
	// First are the nodes to restart before the others, since they stand by. Then
	// are those that carry a site: these at once, for nothing passes between one that has
	// the settings and one that has not.
	First []string `json:"first"`
	Then  []string `json:"then"`
	// Shown are settings that are shown as different on the nodes ShownOn until these have
	// them, and nothing else comes of it.
	Shown   []string `json:"shown"`
	ShownOn []string `json:"shown_on"`
}

// NeedsRestart lists the changes that a reload can't apply.
func (c Config) NeedsRestart() []Change {
	return slices.DeleteFunc(slices.Clone(c.Changes), func(x Change) bool { return x.Effect != EffectRestart })
}

// Plan says what a configuration would do to the node that runs. Nothing was done.
type Plan struct {
	Config
	// Follows says that the sibling carries the site: what follows here concerns its
	// connections, for when this node takes over.
	Follows bool `json:"follows"`
	// Conns is how many connections and other flows there are. Ends lists those that
	// nothing would allow any more, at most MaxConns; Moves is how many others would go
	// on by another rule.
	Conns int      `json:"conns"`
	Ends  []Ending `json:"ends"`
	Moves int      `json:"moves"`
}

// Ending is a flow that would end.
type Ending struct {
	Conn
	// Reason is the name that its packets would be dropped for.
	Reason string `json:"reason"`
}

// Reload says what a reload has done. It is all or nothing.
type Reload struct {
	Config
	// Applied says that the configuration runs now. Otherwise the former one does,
	// whole, and Mistakes or the Changes that need a restart say why.
	Applied bool `json:"applied"`
	// Revoked flows were ended, since no rule allows them any more, and Resumed ones
	// that had been go on; Kept ones did not notice, of which Moved go on by another
	// rule.
	Kept    int `json:"kept"`
	Moved   int `json:"moved"`
	Revoked int `json:"revoked"`
	Resumed int `json:"resumed"`
}

// MarshalJSON writes empty lists as [].
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	p.Config = p.Config.notNil()
	p.Ends = notNil(p.Ends)
	return json.Marshal(plain(p))
}

// MarshalJSON writes empty lists as [].
func (r Reload) MarshalJSON() ([]byte, error) {
	type plain Reload
	r.Config = r.Config.notNil()
	return json.Marshal(plain(r))
}

func (c Config) notNil() Config {
	c.Mistakes, c.Changes = notNil(c.Mistakes), notNil(c.Changes)
	if a := c.Agreement; a != nil {
		c.Agreement = &Agreement{notNil(a.Refused), a.Pair, notNil(a.First), notNil(a.Then), notNil(a.Shown), notNil(a.ShownOn)}
	}
	return c
}
