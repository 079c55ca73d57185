package status

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"time"
)

// Source gives the snapshots. Both methods may be called at any time and by several goroutines at
// once.
type Source interface {
	StatusSource
	ConnSource
}

// StatusSource gives a snapshot of the whole node. It is asked once for each request or scrape.
type StatusSource interface {
	Status() Status
}

// Status is one node at one moment.
type Status struct {
	Node string `json:"node"`
	Site string `json:"site"`
	// Version is the software's version, as `gw version` shows it.
	Version string `json:"version"`
	// Time is when the snapshot was taken, on the clock that all other times are of.
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`
	Uptime  Seconds   `json:"uptime_seconds"`
	// ConfigFiles are the files that the running configuration was read from.
	ConfigFiles []string `json:"config_files"`
	TUN         TUN      `json:"tun"`
	Links       []Link   `json:"links"`
	// Datagrams are those of the tunnels.
	Datagrams Datagrams `json:"datagrams"`
	Flows     Flows     `json:"flows"`
	Relay     Relay     `json:"relay"`
	// Drops are the packets that this node dropped, by reason. NewDrops puts them in order.
	Drops []Drop `json:"drops"`
	// Denials are the attempts among them.
	Denials Denials `json:"denials"`
	// Sites are the linked sites.
	Sites   []Site  `json:"sites"`
	Streams Streams `json:"control_streams"`
	Memory  Memory  `json:"memory"`
	Process Process `json:"process"`
	// RecordFile is the file of flow records, and Fragments are those that wait for the rest of
	// their datagrams.
	RecordFile RecordFile `json:"record_file"`
	Fragments  Fragments  `json:"fragments"`
	// Faults are all that a node knows how to find, those that stand among them.
	Faults []Fault `json:"faults"`
	// HA is nil for a node without a sibling.
	HA *HA `json:"ha,omitempty"`
	// Audit is nil where nothing is audited.
	Audit *Audit `json:"audit,omitempty"`
}

// Datagrams counts the UDP datagrams that carry the tunnels, since the start.
type Datagrams struct {
	Sent     uint64 `json:"sent_total"`
	Received uint64 `json:"received_total"`
	// SentBytes and ReceivedBytes are their UDP payload.
	SentBytes     uint64 `json:"sent_bytes_total"`
	ReceivedBytes uint64 `json:"received_bytes_total"`
	// SplitSends are batches that the kernel refused as a whole and that were sent again one
	// datagram at a time.
	SplitSends uint64 `json:"split_sends_total"`
	// ReceiveErrors are system calls that failed. No datagram is known to be lost by them.
	ReceiveErrors uint64 `json:"receive_errors_total"`
	// HandshakesRepeated are handshake messages sent again since no answer arrived.
	HandshakesRepeated uint64 `json:"handshakes_repeated_total"`
	// Nudges ask a peer outside the tunnel to begin a new session.
	NudgesSent     uint64 `json:"nudges_sent_total"`
	NudgesReceived uint64 `json:"nudges_received_total"`
	// Undelivered had the index of a session, and WireGuard dropped them: forged or replayed ones,
	// and keepalives.
	Undelivered uint64 `json:"undelivered_total"`
	// UnknownSessions had the index of no session of this process.
	UnknownSessions uint64 `json:"unknown_sessions_total"`
	// SendWaits and ReceiveWaits are how often packets waited since too many were inside WireGuard.
	SendWaits    uint64 `json:"send_waits_total"`
	ReceiveWaits uint64 `json:"receive_waits_total"`
	// SendResets are how often the packets inside were taken for lost, since none came out in time.
	SendResets uint64 `json:"send_resets_total"`
	// Drops are those that went no further, by reason. NewDrops puts them in order.
	Drops []Drop `json:"drops"`
}

// RecordFile is the file from which a restarted gateway restores its flows.
type RecordFile struct {
	Records int   `json:"records"`
	Bytes   int64 `json:"bytes"`
	// WriteErrors are writes that failed. A flow whose record is missing breaks when the gateway
	// restarts.
	WriteErrors uint64 `json:"write_errors_total"`
	// Rewrites are how often the whole file was written, and Overflows how often records arrived
	// faster than they could be written, which a rewrite repairs.
	Rewrites  uint64 `json:"rewrites_total"`
	Overflows uint64 `json:"overflows_total"`
}

// Fragments counts datagrams that arrived in fragments, from hosts and from other sites.
type Fragments struct {
	// Held are the incomplete datagrams, and Bytes the memory that they take.
	Held  int `json:"held"`
	Bytes int `json:"held_bytes"`
	// Reassembled were completed, Expired ones lacked a fragment for too long, and Evicted ones
	// were dropped to make room.
	Reassembled uint64 `json:"reassembled_total"`
	Expired     uint64 `json:"expired_total"`
	Evicted     uint64 `json:"evicted_total"`
}

// Audit counts lines of the audit log since the start. Lost ones came faster than they could be
// written, could not be, or found the file as large as it may be.
type Audit struct {
	Written uint64 `json:"written_lines_total"`
	Lost    uint64 `json:"lost_lines_total"`
	// Size is that of the file, and Limit what it may be; zero for standard output. Full says that
	// lines are lost for that.
	Size  int64 `json:"bytes,omitempty"`
	Limit int64 `json:"limit_bytes,omitempty"`
	Full  bool  `json:"full,omitempty"`
}

// MarshalJSON writes empty lists as [], so that a reader of the JSON needn't tell null from none.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	s.ConfigFiles = notNil(s.ConfigFiles)
	s.TUN.Addresses = notNil(s.TUN.Addresses)
	s.Links = notNil(s.Links)
	s.Datagrams.Drops = notNil(s.Datagrams.Drops)
	s.Streams.Drops = notNil(s.Streams.Drops)
	s.Drops = notNil(s.Drops)
	s.Denials.Top = notNil(s.Denials.Top)
	s.Sites = notNil(s.Sites)
	s.Faults = notNil(s.Faults)
	for i := range s.Sites {
		s.Sites[i].Records = notNil(s.Sites[i].Records)
	}
	s.Denials.Totals = notNil(s.Denials.Totals)
	s.Relay.Ends = notNil(s.Relay.Ends)
	s.Relay.Ways = notNil(s.Relay.Ways)
	return json.Marshal(plain(s))
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// TUN is the device through which the host's packets come.
type TUN struct {
	Name string `json:"name"`
	// MTU is in bytes of IP packet.
	MTU int `json:"mtu_bytes"`
	// Driver is the word of the configuration: offload or water.
	Driver    string       `json:"driver"`
	Addresses []netip.Addr `json:"addresses"`
}

// Flows counts what the flow table holds and has done since the start.
type Flows struct {
	TCP   int `json:"tcp"`
	UDP   int `json:"udp"`
	ICMP  int `json:"icmp"`
	Other int `json:"other"`
	// Opened, Denied and Restored are totals since the start. Denied counts flows that policy
	// refused; Restored those that went on from a record without being seen to open.
	Opened   uint64 `json:"opened_total"`
	Denied   uint64 `json:"denied_total"`
	Restored uint64 `json:"restored_total"`
	// Revoked counts flows that were ended since a reload left no rule that allows them.
	Revoked uint64 `json:"revoked_total"`
	// Wakes are ICMP errors sent to hosts of this site after outages, so that they retransmit at
	// once, and Retold are acknowledgements repeated to the other site. RecallsLeft are those of
	// both not sent since another outage came first.
	Wakes       uint64 `json:"wakes_total"`
	Retold      uint64 `json:"acknowledgements_repeated_total"`
	RecallsLeft uint64 `json:"recalls_left_total"`
	// Records are the flows that a restarted gateway could carry on.
	Records int `json:"records"`
	// RecordsRefused is how many records were not kept since the file of records is as large as it
	// may be.
	RecordsRefused uint64 `json:"records_refused_total"`
	// Limit is how many flows the table holds at most; beyond it new ones are dropped.
	Limit int `json:"limit"`
}

// Total is the number of flows in the table.
func (f Flows) Total() int { return f.TCP + f.UDP + f.ICMP + f.Other }

// Relay is what this node relays.
type Relay struct {
	// Relayed are the connections that are relayed now, Begun how many have begun to be since the
	// start.
	Relayed int    `json:"relayed"`
	Begun   uint64 `json:"begun_total"`
	// Full is how often a connection was left raw because as many are relayed as may be.
	Full uint64 `json:"full_total"`
	// Ends are the reasons for which relays have ended, the most frequent first. All but idle, over
	// and reset are anomalies, after which the connection went on raw.
	Ends []RelayEnd `json:"ends"`
	// Violations are segments that would have broken the rule that a gateway only repeats, by kind.
	// Nil where nothing is checked.
	Violations []Violation `json:"violations,omitempty"`
	// TrunksInUse are the trunks, which carry relayed connections between nodes, that have not
	// ended.
	TrunksInUse int `json:"trunks_in_use"`
	// TrunksRefused are those that another node has begun and that were refused, since there were
	// too many, and TrunkPacketsBad the packets that made no sense, or came from a node that no
	// trunks lead to.
	TrunksRefused   uint64 `json:"trunks_refused_total"`
	TrunkPacketsBad uint64 `json:"trunk_packets_bad_total"`
	// TrunksAbandoned are those that ended because the other node did not open, acknowledge or end
	// them in time, TrunksExhausted those that ended because the memory for trunks was used up.
	TrunksAbandoned uint64 `json:"trunks_abandoned_total"`
	TrunksExhausted uint64 `json:"trunks_exhausted_total"`
	// TrunksOpened were begun by this node, TrunksAccepted by others. PeerRestarts are how often a
	// node that trunks lead to restarted since.
	TrunksOpened   uint64 `json:"trunks_opened_total"`
	TrunksAccepted uint64 `json:"trunks_accepted_total"`
	PeerRestarts   uint64 `json:"peer_restarts_total"`
	// LegsMade are the connections of the relay's own TCP to hosts of this site, LegsFailed those
	// that could not be made.
	LegsMade   uint64 `json:"legs_made_total"`
	LegsFailed uint64 `json:"legs_failed_total"`
	// TrunkMemory is what trunks hold, and TrunkMemoryLimit what they may hold:
	// local.limits.trunks.
	TrunkMemory      uint64 `json:"trunk_memory_bytes"`
	TrunkMemoryLimit uint64 `json:"trunk_memory_limit_bytes"`
	// Ways is what trunks have found out about the way to each node that they lead to, by site and
	// node.
	Ways []Way `json:"ways"`
}

// Way is what the packets of trunks have told of the way to another node. Nothing is known before
// the first was sent.
type Way struct {
	// Site and Node name the other node.
	Site string `json:"site"`
	Node string `json:"node"`
	// RTT is the smoothed round trip, queues included, and LeastRTT the one without a queue; zero
	// when not measured.
	RTT      Seconds `json:"rtt_seconds"`
	LeastRTT Seconds `json:"least_rtt_seconds"`
	// Bandwidth is what the way is taken to carry; zero when not measured.
	Bandwidth uint64 `json:"bandwidth_bytes_per_second"`
	// InFlight is what was sent and is neither acknowledged nor taken for lost.
	InFlight uint64 `json:"in_flight_bytes"`
	// Sent are the packets that were sent since trunks lead to the node, mere acknowledgements
	// aside, Lost those of them that were lost. Both restart from zero when the node was out of
	// reach.
	Sent uint64 `json:"packets_sent_total"`
	Lost uint64 `json:"packets_lost_total"`
}

// Measured says whether something was acknowledged, so that the round trip means something.
func (w Way) Measured() bool { return w.RTT > 0 }

// LossRatio is the part of the packets that was lost, 0 to 1; zero when none was sent.
func (w Way) LossRatio() float64 {
	if w.Sent == 0 {
		return 0
	}
	return float64(w.Lost) / float64(w.Sent)
}

// Violation is how many segments would have broken the one rule in one way.
type Violation struct {
	Kind  string `json:"kind"`
	Count uint64 `json:"count"`
}

// NewViolations turns counters by kind into a list, as NewDrops does; nil for nil.
func NewViolations(byKind map[string]uint64) []Violation {
	var list []Violation
	for _, d := range NewDrops(byKind) {
		list = append(list, Violation{Kind: d.Reason, Count: d.Packets})
	}
	return list
}

// RelayEnd is how often relays have ended for one named cause.
type RelayEnd struct {
	Cause string `json:"cause"`
	Count uint64 `json:"count"`
}

// NewRelayEnds turns counters by cause into the list of a Relay, as NewDrops does.
func NewRelayEnds(byCause map[string]uint64) []RelayEnd {
	list := make([]RelayEnd, 0, len(byCause))
	for _, d := range NewDrops(byCause) {
		list = append(list, RelayEnd{Cause: d.Reason, Count: d.Packets})
	}
	return list
}

// Drop is how many packets were dropped for one named reason.
type Drop struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// NewDrops turns counters by reason into the list of a Status: the most frequent first, then by
// name. Reasons that never happened are kept, so that a metric exists before its first event.
func NewDrops(byReason map[string]uint64) []Drop {
	drops := make([]Drop, 0, len(byReason))
	for reason, n := range byReason {
		drops = append(drops, Drop{reason, n})
	}
	slices.SortFunc(drops, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason))
	})
	return drops
}
