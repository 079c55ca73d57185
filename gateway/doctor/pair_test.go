package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// protected is red-1's view of a pair that lacks nothing.
func protected() *status.HA {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	equal := true
	return &status.HA{
		Time: now, Node: "red-1", Site: "red", Role: status.RoleActive, Active: "red-1",
		Health: status.Health{LAN: true, Plane: true, Reach: 1},
		Sibling: status.Sibling{
			Node: "red-2", State: status.SiblingUp, LastHeard: now, Role: status.RoleStandby, Health: &status.Health{LAN: true, Plane: true, Reach: 1},
		},
		Records: status.Records{Held: 7, InSync: true, DigestEqual: &equal},
	}
}

// asStandby is the same pair as red-2 sees it.
func asStandby(h *status.HA) {
	h.Node, h.Role = "red-2", status.RoleStandby
	h.Sibling.Node, h.Sibling.Role = "red-1", status.RoleActive
}

// TestPair has each condition in turn, as both nodes see it.
func TestPair(t *testing.T) {
	differ := false
	for _, tc := range []struct {
		name   string
		change func(*status.HA)
		level  Level
		want   []string // a part of each problem, in order
	}{
		{"protected", func(*status.HA) {}, OK, nil},
		{"protected, seen by the standby", asStandby, OK, nil},
		{"never seen", func(h *status.HA) { h.Sibling.State = status.SiblingUnheard }, Failure, []string{"red-2 has sent nothing since"}},
		{"timed out", func(h *status.HA) {
			h.Sibling.State, h.Sibling.LastHeard = status.SiblingSilent, h.Time.Add(-90*time.Second)
		}, Failure, []string{"red-2 timed out 1m30s ago: no node takes over if red-1 fails; see that gw runs on red-2"}},
		{"refused", func(h *status.HA) {
			h.Sibling.State, h.Sibling.Refused = status.SiblingRefused, "site.red.pair.heartbeat differs"
		}, Failure, []string{"no pair is formed with red-2: site.red.pair.heartbeat differs"}},
		{"an absent sibling's last words", func(h *status.HA) {
			h.Sibling.State, h.Sibling.Health, h.Records.InSync = status.SiblingUnheard, &status.Health{}, false
		}, Failure, []string{"red-2 has sent nothing since"}},
		{"this node starts", func(h *status.HA) { h.Role = status.RoleWaiting }, Warning, []string{"red-1 is waiting"}},
		{"the sibling starts", func(h *status.HA) { h.Sibling.Role = status.RoleWaiting }, Warning, []string{"red-2 is waiting"}},
		{"this node was frozen", func(h *status.HA) { h.Role = status.RoleSuspended }, Warning, []string{"red-1 is suspended"}},
		{"both active", func(h *status.HA) { h.Sibling.Role = status.RoleActive }, Warning, []string{"both nodes are active"}},
		{"none active", func(h *status.HA) { h.Role = status.RoleStandby }, Warning, []string{"no node is active"}},
		{"standby without LAN", func(h *status.HA) { h.Sibling.Health.LAN = false }, Failure, []string{"the LAN interface of red-2 is down"}},
		{"standby stuck", func(h *status.HA) { h.Sibling.Health.Plane = false }, Failure, []string{"no progress through red-2"}},
		{"standby cut off", func(h *status.HA) { h.Sibling.Health.Reach = 0 }, Failure, []string{"red-2 reaches no other site"}},
		{"standby with all of that", func(h *status.HA) { *h.Sibling.Health = status.Health{} }, Failure,
			[]string{"LAN interface of red-2", "through red-2", "red-2 reaches"}},
		{"this standby cut off", func(h *status.HA) { asStandby(h); h.Health.Reach = 0 }, Failure, []string{"red-2 reaches no other site"}},
		{"active node unfit", func(h *status.HA) { h.Health = status.Health{} }, OK, nil},
		{"joining", func(h *status.HA) { h.Records.InSync = false }, Warning, []string{"red-2 has not received all records"}},
		{"repairing", func(h *status.HA) { h.Records.Repairing = 3 }, Warning, []string{"3 of 256 groups"}},
		{"never compared", func(h *status.HA) { h.Records.DigestEqual = nil }, Warning, []string{"have not been compared yet"}},
		{"differing", func(h *status.HA) { h.Records.DigestEqual = &differ }, Warning, []string{"records of both nodes differ"}},
		{"standby cut off and joining", func(h *status.HA) { h.Sibling.Health.Reach, h.Records.InSync = 0, false }, Failure,
			[]string{"red-2 reaches no other site", "red-2 has not received"}},
	} {
		h := protected()
		tc.change(h)
		r := Report{Checks: Pair(h)}
		if r.Worst() != tc.level {
			t.Errorf("%s: level %s, want %s", tc.name, r.Worst(), tc.level)
		}
		for _, c := range r.Checks {
			if c.Area != "pair" || c.What == "" || (c.Do == "") != (c.Level == OK) {
				t.Errorf("%s: %+v", tc.name, c)
			}
		}
		got := Unprotected(h)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tc.want[i]) {
				t.Errorf("%s: %q, want %q", tc.name, got[i], tc.want[i])
			}
		}
	}
}

func TestStandbyOf(t *testing.T) {
	h := protected()
	if node, health := StandbyOf(h); node != "red-2" || health != h.Sibling.Health {
		t.Errorf("%s, %+v", node, health)
	}
	asStandby(h)
	if node, health := StandbyOf(h); node != "red-2" || health != &h.Health {
		t.Errorf("%s, %+v", node, health)
	}
}
