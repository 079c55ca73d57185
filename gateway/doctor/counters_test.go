package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// minute is a minute of a gateway that lacks nothing: its first snapshot and its last.
func minute() (before, now status.Status) {
	start := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	of := func(at time.Time, sent uint64) status.Status {
		h := protected()
		h.VIP.Requests, h.VIP.Answers = sent/100, sent/100
		return status.Status{
			Time: at, Started: start.Add(-time.Hour), HA: h, Process: status.Process{Processors: 1, Usable: 4},
			Datagrams: status.Datagrams{Sent: sent, SendWaits: sent / 10, Drops: []status.Drop{{Reason: "send-too-big", Packets: sent}}},
		}
	}
	return of(start, 1000), of(start.Add(time.Minute), 2000)
}

// trouble lists the checks about counters that are not well.
func trouble(t *testing.T, before, now status.Status) (out []Check) {
	t.Helper()
	for _, c := range counters(&now, &before) {
		if (c.Do == "") != (c.Level == OK) || c.What == "" {
			t.Errorf("%+v", c)
		}
		if c.Level != OK {
			out = append(out, c)
		}
	}
	return out
}

// TestCounters has each rule in turn.
func TestCounters(t *testing.T) {
	drop := func(s *status.Status, reason string, n uint64) {
		s.Datagrams.Drops = append(s.Datagrams.Drops, status.Drop{Reason: reason, Packets: n})
	}
	for _, tc := range []struct {
		name   string
		change func(*status.Status)
		level  Level
		want   string // a part of what is found, and of what to do; "" for nothing
		do     string
	}{
		{"well", func(*status.Status) {}, OK, "", ""},
		{"udp does not leave", func(s *status.Status) {
			s.Datagrams.Sent = 1000
			drop(s, "send-forbidden", 7)
			drop(s, "send-no-route", 2)
		}, Failure,
			"UDP does not leave this host: 9 sends failed in 1m0s, most with send-forbidden", "nft list ruleset"},
		{"some udp does not leave", func(s *status.Status) { drop(s, "send-no-buffer", 5) }, Warning, "5 of 1005 datagrams did not leave", "ip -s link"},
		{"no route", func(s *status.Status) { drop(s, "send-no-route", 1) }, Warning, "send-no-route", "ip route get"},
		{"another error", func(s *status.Status) { drop(s, "send_failed", 1) }, Warning, "send-failed", "journalctl -k"},
		{"frozen", func(s *status.Status) { s.Process.Freezes = 2 }, Warning, "stood still 2 times", "vmstat"},
		{"lost inside", func(s *status.Status) { s.Datagrams.SendResets = 3 }, Warning, "stood still 3 times", "AllowedCPUs"},
		{"busy", func(s *status.Status) { s.Datagrams.ReceiveWaits = 6001; s.Process.Usable = 1 }, Warning, "can't keep up (usable: 1)", "AllowedCPUs"},
		{"one processor that keeps up", func(s *status.Status) { s.Process.Usable = 1 }, OK, "", ""},
		{"record file", func(s *status.Status) { s.RecordFile.WriteErrors = 4 }, Failure, "4 writes failed", "df -h"},
		{"record file full", func(s *status.Status) { s.Flows.RecordsRefused = 4 }, Warning, "4 records were not stored", "local.limits.records"},
		{"fragments", func(s *status.Status) { s.Fragments.Evicted = 4 }, Warning, "4 incomplete datagrams", "local.limits.fragments"},
		{"relays", func(s *status.Status) { s.Relay.Full = 4 }, Warning, "4 connections stayed raw", "local.limits.relays"},
		{"trunks", func(s *status.Status) { s.Relay.TrunksExhausted = 4 }, Warning, "4 trunks ended", "local.limits.trunks"},
		{"legs", func(s *status.Status) { s.Relay.LegsFailed = 4 }, Warning, "4 connections could not be relayed", "journalctl"},
		{"rule", func(s *status.Status) { s.Relay.Violations = []status.Violation{{Kind: "bytes", Count: 1}} }, Warning, "only repeats: 1 (bytes)", "report"},
		{"vip", func(s *status.Status) { s.HA.VIP.Requests += 3 }, Failure, "3 of 13 requests for the LAN address were not answered", "ARP"},
		{"replication", func(s *status.Status) { s.HA.Records.Refused = 2 }, Warning, "2 records beyond", "gw conns"},
	} {
		before, now := minute()
		tc.change(&now)
		got := trouble(t, before, now)
		if tc.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: %+v", tc.name, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Level != tc.level || !strings.Contains(got[0].What, tc.want) || !strings.Contains(got[0].Do, tc.do) {
			t.Errorf("%s: %+v, want %s %q, %q", tc.name, got, tc.level, tc.want, tc.do)
		}
		if tc.name == "rule" {
			continue // which counts from the start
		}
		// What was counted earlier is over.
		later := now
		later.Time = now.Time.Add(time.Minute)
		later.Datagrams.Sent += 10
		if got := trouble(t, now, later); len(got) != 0 {
			t.Errorf("%s, a minute later: %+v", tc.name, got)
		}
	}
}

// TestWatch: a gateway is judged by the last five minutes, or by all of its life while it is
// younger.
func TestWatch(t *testing.T) {
	w := NewWatch(nil)
	before, now := minute()
	spans := func(s status.Status) string {
		for _, c := range w.Checks(s) {
			if c.Name == "udp" {
				return c.What
			}
		}
		return ""
	}
	if got := spans(now); !strings.HasSuffix(got, "2000 in 1h1m0s") {
		t.Errorf("without an earlier snapshot: %q", got)
	}
	w.keep(before)
	if got := spans(now); !strings.HasSuffix(got, "1000 in 1m0s") {
		t.Errorf("with one: %q", got)
	}
	for i := range 2 * samples {
		s := now
		s.Time = now.Time.Add(time.Duration(i) * sampleEvery)
		s.Datagrams.Sent = 2000 + uint64(i)
		w.keep(s)
		now.Datagrams.Sent, before = s.Datagrams.Sent, s
	}
	before.Time = before.Time.Add(sampleEvery)
	if got := spans(before); !strings.HasSuffix(got, fmt.Sprintf("%d in %v", samples-1, samples*sampleEvery)) || len(w.kept) != samples {
		t.Errorf("after many: %q, %d kept", got, len(w.kept))
	}
}
