package status

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sampleHA is an active node after a failover, whose sibling has come back.
func sampleHA(now time.Time) *HA {
	equal, ago := true, Seconds(20*time.Millisecond)
	return &HA{
		Time: now, Node: "red-1", Site: "red", Role: RoleActive, Since: now.Add(-time.Hour), Active: "red-1", Epoch: 1773500000123,
		Why:      "the sibling timed out, and no witness sees it",
		Health:   Health{LAN: true, Plane: true, Reach: 1},
		Problems: []string{"the records differ; wait for it"},
		Sibling: Sibling{
			Node: "red-2", State: SiblingUp, LastHeard: now.Add(-20 * time.Millisecond), Role: RoleStandby,
			Health: &Health{LAN: true, Plane: true, Reach: 1},
		},
		Witnesses: []Witness{{Node: "gray-1", Site: "gray", HeardAgo: &ago, HearsUs: true}, {Node: "gray-2", Site: "gray"}},
		Records:   Records{Held: 1200, Lag: 3, Sent: 90210, SentBytes: 9 << 20, Messages: 4000, Retransmits: 7, Repairs: 256, Applied: 5, Removed: 3, Refused: 1, Overflows: 2, Sessions: 4, InSync: true, DigestEqual: &equal, Repairing: 2},
		VIP:       VIP{Addresses: []netip.Addr{netip.MustParseAddr("192.168.1.10")}, Held: true, Requests: 31, Answers: 30, Announcements: 14, Probes: 120, SendErrors: 1},
		Carriers:  []Carrier{{Site: "gray", Node: "gray-1"}, {Site: "red", Node: "red-1", Epoch: 1773500000123}, {Site: "blue"}},
		Planned:   1, Unplanned: 2,
		LastFailover: &Failover{
			At: now.Add(-time.Hour), From: "red-2", To: "red-1", Epoch: 1773500000123,
			Reason: "the sibling timed out, and no witness sees it",
			Phases: Phases{
				Asked: ms(100.2), Detected: ms(150.3), Claimed: ms(150.4), Acknowledged: ms(191), Address: ms(152), Announced: ms(152.25), Total: ms(191),
			},
		},
		Handover: &Handover{To: "red-2", Reason: "drained by an operator", Age: Seconds(5 * time.Millisecond)},
	}
}

func ms(f float64) Millis { return Millis(f * float64(time.Millisecond)) }

func TestHATestJSON(t *testing.T) {
	differ := false
	want := HATest{Node: "red-2", Records: 1200, DigestEqual: &differ, Problems: []string{"the records differ"}}
	b, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hatest.json", append(b, '\n'))
	var got HATest
	if err := json.Unmarshal(b, &got); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("reads back as %+v (%v)", got, err)
	}
}

func TestHAJSONHasNoNull(t *testing.T) {
	for _, v := range []any{HA{}, HATest{}, Failover{}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("null")) {
			t.Errorf("an empty %T has a null: %s", v, b)
		}
	}
}

func TestMillis(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		text string
		back time.Duration
	}{
		{0, "0", 0},
		{12345 * time.Microsecond, "12.345", 12345 * time.Microsecond},
		{1499 * time.Nanosecond, "0.001", time.Microsecond},
		{61 * time.Second, "61000", 61 * time.Second},
	} {
		b, err := json.Marshal(Millis(tt.d))
		if err != nil || string(b) != tt.text {
			t.Errorf("%v is written as %s (%v), want %s", tt.d, b, err, tt.text)
		}
		var got Millis
		if err := json.Unmarshal(b, &got); err != nil || got.Duration() != tt.back {
			t.Errorf("%s is read as %v (%v), want %v", tt.text, got, err, tt.back)
		}
	}
	var m Millis
	if err := json.Unmarshal([]byte(`"1ms"`), &m); err == nil {
		t.Error("took a string for a number of milliseconds")
	}
}
