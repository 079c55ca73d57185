package status

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// compareAddr lets cmp look at netip values, which keep their fields to themselves.
var compareAddr = cmpopts.EquateComparable(netip.Addr{})

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// sample has a link in each interesting condition.
func sample() Status {
	now := time.Date(2026, 3, 14, 15, 9, 26, 500e6, time.UTC)
	return Status{
		Node: "red-1", Site: "red", Version: "v0.2.0",
		Time: now, Started: now.Add(-26 * time.Hour), Uptime: Seconds(26 * time.Hour),
		ConfigFiles: []string{"/etc/gw/site.hcl"},
		TUN: TUN{
			Name: "gw0", MTU: 1420, Driver: "offload",
			Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")},
		},
		Links: []Link{
			{
				Peer: "gray-1", Site: "gray", State: LinkUp, Since: now.Add(-time.Hour), Endpoint: "203.0.113.10:51820", Initiator: true,
				LastHandshake: now.Add(-12 * time.Second), RTT: Seconds(40200 * time.Microsecond), RTTVar: Seconds(300 * time.Microsecond),
				LossOut: 0.0125, MTUOut: 1420, MTUIn: 1380, TxBytes: 123456789, RxBytes: 987654321, HellosSent: 3600, HellosReceived: 3590, Protocol: 5, Version: "v0.2.0",
				Differences: []Difference{
					{"link.red.gray.keepalive", Differs, false},
					{"policy.rule.replication.ports", OnlyThere, false},
					{"site.gray.subnets", Differs, true},
				},
				ClockSkew: Seconds(-1500 * time.Millisecond),
			},
			{Peer: "blue-1", Site: "blue", State: LinkEstablishing, Endpoint: "198.51.100.1:51820", Initiator: true, TxBytes: 148},
			{
				Peer: "blue-2", Site: "blue", State: LinkRefused, LastHandshake: now.Add(-time.Second),
				Refused:     "site.blue.pair.heartbeat differs",
				Duplicates:  []Duplicate{{Node: "blue-2", Endpoints: []string{"198.51.100.1:51820", "198.51.100.7:40000"}}},
				ClockBehind: Seconds(3 * time.Second),
			},
		},
		Relay: Relay{
			Relayed: 3, Begun: 42, LegsMade: 43, LegsFailed: 1, TrunksOpened: 30, TrunksAccepted: 13, PeerRestarts: 1, TrunksInUse: 3, TrunksRefused: 1, TrunkPacketsBad: 2, TrunksAbandoned: 4, TrunksExhausted: 5, TrunkMemory: 6 << 20, TrunkMemoryLimit: 64 << 20, Violations: []Violation{{Kind: "bytes", Count: 1}},
			Ends: NewRelayEnds(map[string]uint64{"idle": 37, "stall": 2, "refused": 0}),
			Ways: []Way{
				{Site: "blue", Node: "blue-1"},
				{
					Site: "gray", Node: "gray-1", RTT: Seconds(41200 * time.Microsecond), LeastRTT: Seconds(40100 * time.Microsecond),
					Bandwidth: 35125000, InFlight: 1448000, Sent: 1234567, Lost: 3704,
				},
			},
		},
		Flows:      Flows{TCP: 12, UDP: 3, ICMP: 1, Opened: 4711, Denied: 7, Restored: 2, Records: 12, Limit: 262144},
		Drops:      NewDrops(map[string]uint64{"denied": 7, "spoofed": 0, "bad-checksum": 9, "fragment-bad": 7}),
		Datagrams:  Datagrams{Sent: 9, SentBytes: 900, Received: 8, ReceivedBytes: 800, SplitSends: 2, ReceiveErrors: 1, HandshakesRepeated: 3, NudgesSent: 1, NudgesReceived: 2, Undelivered: 1, SendWaits: 4, SendResets: 1, Drops: NewDrops(map[string]uint64{"receive_bad_mac": 2})},
		Memory:     Memory{Resident: 31 << 20, ResidentPeak: 64 << 20, Heap: 9 << 20, Goroutines: 31},
		Process:    Process{Processors: 1, Usable: 4, Freezes: 1},
		RecordFile: RecordFile{Records: 12, Bytes: 1234, WriteErrors: 1, Rewrites: 5, Overflows: 2},
		Fragments:  Fragments{Held: 1, Bytes: 1500, Reassembled: 90, Expired: 2, Evicted: 1},
		Faults: []Fault{
			{
				Fault: "address-taken", Stands: true, Raised: 2, Part: "none", What: "02:00:5e:00:00:07 answers for 10.77.1.254",
				Do: "give that host another address", Since: now.Add(-3 * time.Second),
			},
			{Fault: "stuck", Raised: 1},
		},
		HA:    sampleHA(now),
		Audit: &Audit{Written: 9411, Lost: 12, Size: 939524096, Limit: 1 << 30, Full: true},
		Sites: []Site{
			{
				Site: "gray", RelayReason: "the link loses 0.4 %", Unconfirmed: 2, Records: []RecordResult{{"taken", 41}, {"other-site", 0}, {"quota", 7}, {"confirmed", 39}},
				RecordRequests: Requests{Answered: 3, Refused: 1}, Questions: Requests{Answered: 12},
			},
			{Site: "blue"},
		},
		Streams: Streams{Received: 4000, Sent: 3900, Dropped: 1, Limited: 5, Drops: NewDrops(map[string]uint64{"damaged": 2, "unwanted": 0})},
		Denials: Denials{
			Top: []Denial{
				{
					Site: "gray", Reason: "denied", Proto: "tcp", Destination: netip.MustParseAddr("10.77.1.10"), Port: 22, Packets: 1204,
					First: now.Add(-time.Minute), Last: now.Add(-3 * time.Second),
				},
				{Site: "gray", Packets: 17, First: now.Add(-time.Minute), Last: now.Add(-time.Second)},
			},
			Totals: []DenialTotal{{Site: "gray", Reason: "denied", Packets: 1221}},
		},
	}
}

func sampleConn() Conn {
	return Conn{
		Proto: "tcp", Source: netip.MustParseAddr("10.77.2.10"), SourcePort: 40112,
		Destination: netip.MustParseAddr("10.77.1.10"), DestinationPort: 5432,
		OpenedBy: OpenedRemote, Site: "gray", Mode: "raw", State: "established", Rule: "replication", RulePos: "site.hcl:31",
		BytesOut: 1 << 20, BytesIn: 1 << 30, PacketsOut: 1000, PacketsIn: 800000, Age: Seconds(time.Hour), Idle: Seconds(20 * time.Millisecond),
	}
}

// The JSON is a contract: this golden file changes only by growing.
func TestJSON(t *testing.T) {
	type both struct {
		Status Status
		Conns  ConnList
	}
	want := both{sample(), ConnList{Total: 1, Conns: []Conn{sampleConn()}}}
	b, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "contract.json", append(b, '\n'))

	var got both
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("does not read back (-want +got):\n%s", diff)
	}
}

func TestJSONHasNoNull(t *testing.T) {
	b, err := json.Marshal(Status{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("null")) {
		t.Errorf("an empty status has a null: %s", b)
	}
}

func TestSeconds(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		text string
	}{
		{0, "0"},
		{time.Nanosecond, "0.000000001"},
		{40200 * time.Microsecond, "0.0402"},
		{-1500 * time.Millisecond, "-1.5"},
		{26 * time.Hour, "93600"},
		{40 * 24 * time.Hour, "3456000"},
	} {
		b, err := json.Marshal(Seconds(tt.d))
		if err != nil || string(b) != tt.text {
			t.Errorf("%v is written as %s (%v), want %s", tt.d, b, err, tt.text)
		}
		var got Seconds
		if err := json.Unmarshal(b, &got); err != nil || got.Duration() != tt.d {
			t.Errorf("%s is read as %v (%v), want %v", b, got, err, tt.d)
		}
	}
	var s Seconds
	if err := json.Unmarshal([]byte(`"1s"`), &s); err == nil {
		t.Error("took a string for a number of seconds")
	}
}

func TestNewDrops(t *testing.T) {
	want := []Drop{{"b", 5}, {"a", 2}, {"c", 2}, {"d", 0}}
	if diff := cmp.Diff(want, NewDrops(map[string]uint64{"a": 2, "b": 5, "c": 2, "d": 0})); diff != "" {
		t.Error(diff)
	}
}

func TestReadMemory(t *testing.T) {
	m := ReadMemory()
	if m.Resident < 1<<20 || m.ResidentPeak < m.Resident || m.Heap == 0 || m.Goroutines == 0 {
		t.Errorf("implausible: %+v", m)
	}
}
