package doctor

import (
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// Pair judges whether the site survives the loss of its active node without losing a connection. It
// is the one judge of that: `gw status`, `gw ha status`, `gw ha test`, `gw doctor`, /readyz, the
// metrics and the page all show its verdict. The gravest check comes first.
func Pair(h *status.HA) []Check {
	if h.Sibling.State != status.SiblingUp {
		return []Check{absent(h)} // its last heartbeat no longer means anything
	}
	checks := []Check{roles(h)}
	if checks[0].Level == OK {
		checks = append(checks, standby(h)...)
	}
	return append(checks, records(h))
}

// Unprotected lists what keeps a takeover from being without loss, as Pair finds it; nil when
// nothing does.
func Unprotected(h *status.HA) (problems []string) {
	for _, c := range Pair(h) {
		if c.Level != OK {
			problems = append(problems, c.What+"; "+c.Do)
		}
	}
	return problems
}

// StandbyOf names the node that would have to take over, and what is known of its health; nil when
// nothing is.
func StandbyOf(h *status.HA) (node string, health *status.Health) {
	if h.Role == status.RoleActive {
		return h.Sibling.Node, h.Sibling.Health
	}
	return h.Node, &h.Health
}

// absent judges a sibling that sends no heartbeats, or with which no pair is formed.
func absent(h *status.HA) Check {
	s := &h.Sibling
	c := Check{
		Area: "pair", Name: "sibling", Level: Failure,
		Do: fmt.Sprintf("see that gw runs on %s, and the state of the link to it: gw status", s.Node),
	}
	switch s.State {
	case status.SiblingRefused:
		c.What = fmt.Sprintf("no pair is formed with %s: %s", s.Node, s.Refused)
		c.Do = "make the settings that gw status names equal on both nodes; gw plan shows whether a reload applies them"
	case status.SiblingSilent:
		c.What = fmt.Sprintf("%s timed out %v ago: no node takes over if %s fails", s.Node, h.Time.Sub(s.LastHeard).Round(time.Second), h.Node)
	default:
		c.What = fmt.Sprintf("%s has sent nothing since this node started: no node takes over if %s fails", s.Node, h.Node)
	}
	return c
}

// roles judges whether exactly one node is active.
func roles(h *status.HA) Check {
	s := &h.Sibling
	c := Check{Area: "pair", Name: "roles", Level: Warning, Do: "ask again in a few seconds: gw ha status; if it stays so, see the log of both: journalctl -u gw"}
	for _, n := range []struct {
		node string
		role status.Role
	}{{h.Node, h.Role}, {s.Node, s.Role}} {
		if n.role == status.RoleWaiting || n.role == status.RoleSuspended {
			c.What = fmt.Sprintf("%s is %s: the nodes are agreeing on the active one", n.node, n.role)
			return c
		}
	}
	switch mine, its := h.Role == status.RoleActive, s.Role == status.RoleActive; {
	case mine && its:
		c.What = "both nodes are active, which lasts for one heartbeat"
	case !mine && !its:
		c.What = "no node is active"
	default:
		c.Level, c.Do = OK, ""
		c.What = fmt.Sprintf("%s is %s, %s is %s", h.Node, h.Role, s.Node, s.Role)
	}
	return c
}

// standby judges whether the standby could carry the connections.
func standby(h *status.HA) []Check {
	node, health := StandbyOf(h)
	if health == nil {
		return nil
	}
	var checks []Check
	failed := func(what, do string) {
		checks = append(checks, Check{Area: "pair", Name: "standby", Level: Failure, What: what, Do: do})
	}
	if !health.LAN {
		failed("the LAN interface of "+node+" is down", "on "+node+": ip link set up the interface of local.lan; see its cable and switch")
	}
	if !health.Plane {
		failed("packets make no progress through "+node, "on "+node+": gw doctor; journalctl -u gw -n 50; restart gw")
	}
	if health.Reach == 0 {
		failed(node+" reaches no other site", "on "+node+": gw status, for the state of its links")
	}
	if checks == nil {
		checks = []Check{{Area: "pair", Name: "standby", Level: OK, What: node + " can carry the connections"}}
	}
	return checks
}

// records judges whether the standby has the records of all connections.
func records(h *status.HA) Check {
	node, _ := StandbyOf(h)
	r := &h.Records
	c := Check{Area: "pair", Name: "records", Level: Warning, Do: "wait for it: gw ha test --wait 60s; if it stays so, restart gw on the standby"}
	switch {
	case !r.InSync:
		c.What = node + " has not received all records: connections without one would break"
	case r.Repairing > 0:
		c.What = fmt.Sprintf("%d of 256 groups of records are being sent again", r.Repairing)
	case r.DigestEqual == nil:
		c.What = "the records of both nodes have not been compared yet"
	case !*r.DigestEqual:
		c.What = "the last comparison found that the records of both nodes differ"
	default:
		c.Level, c.What, c.Do = OK, "digest equal", ""
	}
	return c
}
