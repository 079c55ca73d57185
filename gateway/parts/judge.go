package parts

import (
	"fmt"
	"net/netip"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/policy"
)

// Judge applies the policy's rules for a flow table. It is immutable.
type Judge struct {
	policy *policy.Policy
	rules  map[string]*flow.Rule // by name, which is unique
}

// NewJudge builds the policy from the configuration's rules. Reading the configuration has checked
// them: an error here is one that the check has missed.
func NewJudge(c configs.Config) (*Judge, error) {
	list := make([]policy.Rule, 0, len(c.Rules))
	j := &Judge{rules: make(map[string]*flow.Rule, len(c.Rules))}
	for _, r := range c.Rules {
		mode, err := flowMode(r.Mode)
		if err != nil {
			return nil, fmt.Errorf("rule %q (%s): %w", r.Name, r.Pos, err)
		}
		pr := policy.Rule{
			Name: r.Name, Pos: r.Pos.String(),
			From: hosts(r.From), To: hosts(r.To),
		}
		for _, p := range r.Ports {
			pr.Ports = append(pr.Ports, policy.Ports{Proto: p.Proto, Lo: p.Lo, Hi: p.Hi})
		}
		list = append(list, pr)
		j.rules[r.Name] = &flow.Rule{Name: r.Name, Pos: pr.Pos, Mode: mode}
	}
	var err error
	j.policy, err = policy.New(list)
	return j, err
}

// hosts returns the addresses that a rule's from or to covers.
func hosts(list []configs.Endpoint) []policy.Hosts {
	out := make([]policy.Hosts, 0, len(list))
	for _, e := range list {
		out = append(out, policy.Hosts{Prefixes: e.Prefixes, Except: e.Except})
	}
	return out
}

// flowMode converts a rule's mode for the flow table.
func flowMode(m configs.Mode) (flow.Mode, error) {
	switch m {
	case configs.ModeAuto:
		return flow.ModeAuto, nil
	case configs.ModeRelay:
		return flow.ModeRelay, nil
	case configs.ModeRoute:
		return flow.ModeRoute, nil
	}
	return flow.ModeAuto, fmt.Errorf("unknown mode %q: use auto, relay or route", m)
}

// Judge implements flow.Judge. It denies the protocol of trunks whatever the rules say: gateways
// exchange those packets without the table, and a host that sends one imitates a gateway.
func (j *Judge) Judge(src, dst netip.Addr, proto uint8, port uint16) *flow.Rule {
	if proto == wire.ProtoTrunk {
		return nil
	}
	v := j.policy.Judge(src, dst, proto, port)
	if !v.Allowed {
		return nil
	}
	return j.rules[v.Rule.Name]
}

var _ flow.Judge = (*Judge)(nil)

// Excepted returns the name of the rule that would allow the flow if a site's name covered the own
// addresses of its gateways, or "".
func (j *Judge) Excepted(src, dst netip.Addr, proto uint8, port uint16) string {
	if r := j.policy.Excepted(src, dst, proto, port); r != nil {
		return r.Name
	}
	return ""
}
