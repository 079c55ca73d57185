package status

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector turns a snapshot into metrics at each scrape, so that the data path counts in its own
// way and knows nothing of Prometheus. Labels are names out of the configuration and of the code;
// addresses are never among them.
type Collector struct {
	source StatusSource
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector makes a Collector over the source. Safe for concurrent use, as the source is.
func NewCollector(source StatusSource) *Collector { return &Collector{source} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gw_"+name, help, labels, nil)
}

var (
	descInfo      = desc("info", "The node and its software version; always 1.", "node", "site", "version")
	descStart     = desc("start_time_seconds", "When the process started, in seconds since 1970.")
	descTUNMTU    = desc("tun_mtu_bytes", "Largest IP packet that the TUN device takes.")
	descLinkUp    = desc("link_up", "1 when the link to the peer carries packets.", "peer", "site")
	descLinkState = desc("link_state", "1 for the state that the link is in, 0 for the others.", "peer", "site", "state")
	descSince     = desc("link_state_since_timestamp_seconds", "When the link came into its state, in seconds since 1970.", "peer", "site")
	descHandshake = desc("link_last_handshake_timestamp_seconds", "When the last WireGuard handshake was completed, in seconds since 1970.", "peer", "site")
	descRTT       = desc("link_round_trip_seconds", "Smoothed round trip inside the tunnel.", "peer", "site")
	descRTTVar    = desc("link_round_trip_deviation_seconds", "Mean deviation of the round trip (RFC 6298).", "peer", "site")
	descLoss      = desc("link_loss_ratio", "Part of the recent hellos that was lost, by direction.", "peer", "site", "direction")
	descLinkMTU   = desc("link_mtu_bytes", "Largest IP packet known to pass inside the tunnel, by direction.", "peer", "site", "direction")
	descTx        = desc("link_transmit_bytes_total", "Bytes sent to the peer by WireGuard.", "peer", "site")
	descRx        = desc("link_receive_bytes_total", "Bytes received from the peer by WireGuard.", "peer", "site")
	descDiff      = desc("link_config_differences", "Settings in which the two configurations disagree.", "peer", "site", "fatal")
	descDuplicate = desc("link_duplicate_key", "1 while two processes use one private key.", "peer", "site")
	descSkew      = desc("link_clock_skew_seconds", "The peer's wall clock minus this node's.", "peer", "site")
	descBehind    = desc("link_clock_behind_seconds", "By how much this node's clock stands behind its own last handshake with the peer; new handshakes fail while it does.", "peer", "site")
	descFlows     = desc("flows", "Flows in the table.", "proto")
	descFlowLimit = desc("flow_limit", "Flows that the table holds at most.")
	descRecords   = desc("flow_records", "Flows that a restarted gateway could carry on.")
	descOpened    = desc("flows_opened_total", "Flows that were opened.")
	descDenied    = desc("flows_denied_total", "Flows that policy refused.")
	descRevoked   = desc("flows_revoked_total", "Flows ended by a reload of the policy.")
	descWakes     = desc("recalls_total", "Packets sent after outages so that connections resume soon, by kind: wake is an ICMP error to a host of this site, acknowledgement one repeated to the other site.", "kind")
	descRecalls   = desc("recalls_left_total", "The same, not sent: another outage or the end came before their turn.")
	descRestored  = desc("flows_restored_total", "Flows carried on from a record.")
	descRelayed   = desc("relayed", "Connections that are relayed.")
	descRelays    = desc("relays_begun_total", "Times that a connection began to be relayed.")
	descEnds      = desc("relays_ended_total", "Times that a connection ceased to be relayed, by cause.", "cause")
	descBroken    = desc("rule_violations_total", "Segments not written since they would have broken the rule that a gateway only repeats.", "kind")
	descTrunks    = desc("trunks", "Trunks in use, which carry relayed connections between nodes.")
	descFull      = desc("relays_refused_total", "Times that a connection stayed raw because as many are relayed as may be.")
	descRefused   = desc("flow_records_refused_total", "Records not kept since the file of records is as large as it may be.")
	descTooMany   = desc("trunks_refused_total", "Trunks begun by other nodes that were refused, since there were too many.")
	descLate      = desc("trunks_abandoned_total", "Trunks that ended because the other node did not open, acknowledge or end them in time.")
	descExhausted = desc("trunks_exhausted_total", "Trunks that ended because the memory for trunks was used up.")
	descTrunkMem  = desc("trunk_memory_bytes", "Memory of trunks: bytes that were sent and not acknowledged, or received and not consumed.")
	descTrunkMax  = desc("trunk_memory_limit_bytes", "What the trunks may hold: local.limits.trunks.")
	descBad       = desc("trunk_packets_bad_total", "Packets of trunks that made no sense, or came from a node that none lead to.")
	descWayRTT    = desc("trunk_round_trip_seconds", "Smoothed round trip of the packets of trunks to the peer, queues included.", "peer", "site")
	descWayRate   = desc("trunk_bandwidth_bytes_per_second", "What the way to the peer is taken to carry for trunks.", "peer", "site")
	descWaySent   = desc("trunk_packets_total", "Packets sent to the peer by trunks, mere acknowledgements aside.", "peer", "site")
	descWayLost   = desc("trunk_packets_lost_total", "Packets sent to the peer by trunks that were lost.", "peer", "site")
	descAuditLost = desc("audit_lines_lost_total", "Lines missing in the audit log: they came faster than they could be written, could not be, or found the file full.")
	descAuditSize = desc("audit_file_bytes", "Size of the audit log's file.")
	descAuditMax  = desc("audit_file_limit_bytes", "Size that the audit log's file may have; beyond it lines are lost.")
	descUnconf    = desc("unconfirmed_flows", "Flows known only from the site's records, which the local host has not confirmed.", "site")
	descRelaying  = desc("site_relays", "1 while bulk transfers to the site are relayed, because of its round trip or loss.", "site")
	descGiven     = desc("site_records_total", "Flow records that the site has given, by result.", "site", "result")
	descAsked     = desc("site_requests_total", "Requests of the site, by kind and result.", "site", "kind", "result")
	descSentBytes = desc("datagrams_sent_bytes_total", "UDP payload of the tunnels sent, in bytes.")
	descRecvBytes = desc("datagrams_received_bytes_total", "UDP payload received on the tunnels' port, in bytes.")
	descSplit     = desc("datagram_split_sends_total", "Batches that the kernel refused as a whole and that were sent again one datagram at a time.")
	descRecvErr   = desc("datagram_receive_errors_total", "System calls that failed on receive.")
	descRepeats   = desc("handshakes_repeated_total", "Handshake messages sent again since no answer arrived.")
	descNudges    = desc("nudges_total", "Requests outside the tunnel to begin a new session, by direction.", "direction")
	descResets    = desc("datagram_resets_total", "Times that packets inside WireGuard were taken for lost, since none came out in time, by direction.", "direction")
	descHellos    = desc("link_hellos_total", "Hellos, which both gateways exchange all the time, by direction.", "peer", "site", "direction")
	descLegs      = desc("legs_total", "Connections of the relay's own TCP to hosts of this site, by result.", "result")
	descTrunkAll  = desc("trunks_opened_total", "Trunks begun, by direction: out is by this node.", "direction")
	descRestarts  = desc("trunk_peer_restarts_total", "Times that a node that trunks lead to restarted.")
	descFileRecs  = desc("record_file_records", "Records in the file from which a restarted gateway restores its flows.")
	descFileSize  = desc("record_file_bytes", "Size of the file of flow records.")
	descFileErr   = desc("record_write_errors_total", "Writes of the file of flow records that failed.")
	descFileNew   = desc("record_file_rewrites_total", "Times that the file of flow records was written as a whole.")
	descFileOver  = desc("record_file_overflows_total", "Times that flow records arrived faster than they could be written; a rewrite repairs that.")
	descFragHeld  = desc("fragmented_datagrams", "Datagrams of which fragments are missing.")
	descFragBytes = desc("fragmented_bytes", "Memory of datagrams of which fragments are missing.")
	descFrags     = desc("fragmented_datagrams_total", "Datagrams that arrived in fragments, by result.", "result")
	descFault     = desc("fault", "1 while the node has the fault.", "fault")
	descRaised    = desc("faults_total", "Times that the node was found to have the fault.", "fault")
	descProcs     = desc("processors", "Processors that the process runs on now.")
	descUsable    = desc("processors_usable", "Processors that the process may run on.")
	descFreezes   = desc("process_freezes_total", "Times that the process stood still for a second or more.")
	descOwnPorts  = desc("control_packets_total", "TCP packets between other nodes and this node's own ports, by direction.", "direction")
	descStreams   = desc("control_packets_refused_total", "Packets and connections of other nodes to this node's own ports that were dropped, by reason.", "reason")
	descDenials   = desc("denied_packets_total", "Packets dropped because their sender must not send them, by the site that they came from and reason.", "site", "reason")
	descDrops     = desc("dropped_packets_total", "Packets dropped, by reason.", "reason")
	descSent      = desc("datagrams_sent_total", "UDP datagrams of the tunnels sent.")
	descReceived  = desc("datagrams_received_total", "UDP datagrams received on the tunnels' port.")
	descForged    = desc("datagrams_undelivered_total", "Datagrams with the index of a session that WireGuard dropped: forged or replayed ones, and keepalives.")
	descUnknown   = desc("datagrams_unknown_session_total", "Datagrams with the index of no session of this process.")
	descWaits     = desc("datagram_waits_total", "Times that packets waited since too many were inside WireGuard, by direction.", "direction")
	descDatagrams = desc("datagrams_dropped_total", "Datagrams of the tunnels that went no further, by reason.", "reason")
	descResident  = desc("memory_resident_bytes", "Memory that the kernel holds for the process.")
	descPeak      = desc("memory_resident_peak_bytes", "Most memory that the kernel ever held for the process.")
	descHeap      = desc("memory_heap_bytes", "Memory of Go objects, live or not yet collected.")
	descRoutines  = desc("goroutines", "Goroutines of the process.")
)

// Describe sends nothing: which links and reasons there are shows only in a snapshot, so the
// collector is an unchecked one.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes one snapshot and sends it.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Status()
	m := sink(ch)
	m.gauge(descInfo, 1, s.Node, s.Site, s.Version)
	m.gauge(descStart, float64(s.Started.UnixMilli())/1e3)
	m.gauge(descTUNMTU, float64(s.TUN.MTU))
	for i := range s.Links {
		m.link(&s.Links[i])
	}
	if s.HA != nil {
		m.ha(s.HA)
	}
	m.gauge(descFlows, float64(s.Flows.TCP), "tcp")
	m.gauge(descFlows, float64(s.Flows.UDP), "udp")
	m.gauge(descFlows, float64(s.Flows.ICMP), "icmp")
	m.gauge(descFlows, float64(s.Flows.Other), "other")
	m.gauge(descFlowLimit, float64(s.Flows.Limit))
	m.gauge(descRecords, float64(s.Flows.Records))
	m.counter(descOpened, s.Flows.Opened)
	m.counter(descDenied, s.Flows.Denied)
	m.counter(descRevoked, s.Flows.Revoked)
	m.counter(descWakes, s.Flows.Wakes, "wake")
	m.counter(descWakes, s.Flows.Retold, "acknowledgement")
	m.counter(descRecalls, s.Flows.RecallsLeft)
	m.counter(descRestored, s.Flows.Restored)
	m.gauge(descRelayed, float64(s.Relay.Relayed))
	m.counter(descRelays, s.Relay.Begun)
	for _, e := range s.Relay.Ends {
		m.counter(descEnds, e.Count, e.Cause)
	}
	for _, v := range s.Relay.Violations {
		m.counter(descBroken, v.Count, v.Kind)
	}
	m.gauge(descTrunks, float64(s.Relay.TrunksInUse))
	m.counter(descTrunkAll, s.Relay.TrunksOpened, "out")
	m.counter(descTrunkAll, s.Relay.TrunksAccepted, "in")
	m.counter(descRestarts, s.Relay.PeerRestarts)
	m.counter(descLegs, s.Relay.LegsMade, "made")
	m.counter(descLegs, s.Relay.LegsFailed, "failed")
	m.counter(descTooMany, s.Relay.TrunksRefused)
	m.counter(descBad, s.Relay.TrunkPacketsBad)
	m.counter(descLate, s.Relay.TrunksAbandoned)
	m.counter(descExhausted, s.Relay.TrunksExhausted)
	m.gauge(descTrunkMem, float64(s.Relay.TrunkMemory))
	m.gauge(descTrunkMax, float64(s.Relay.TrunkMemoryLimit))
	for i := range s.Relay.Ways {
		m.way(&s.Relay.Ways[i])
	}
	m.counter(descFull, s.Relay.Full)
	m.counter(descRefused, s.Flows.RecordsRefused)
	if s.Audit != nil {
		m.counter(descAuditLost, s.Audit.Lost)
		if s.Audit.Limit > 0 {
			m.gauge(descAuditSize, float64(s.Audit.Size))
			m.gauge(descAuditMax, float64(s.Audit.Limit))
		}
	}
	for i := range s.Sites {
		m.site(&s.Sites[i])
	}
	m.counter(descStreams, s.Streams.Dropped, "no-room")
	m.counter(descStreams, s.Streams.Limited, "share")
	for _, d := range s.Streams.Drops {
		m.counter(descStreams, d.Packets, d.Reason)
	}
	m.counter(descOwnPorts, s.Streams.Received, "in")
	m.counter(descOwnPorts, s.Streams.Sent, "out")
	m.recordFile(&s.RecordFile)
	m.gauge(descFragHeld, float64(s.Fragments.Held))
	m.gauge(descFragBytes, float64(s.Fragments.Bytes))
	m.counter(descFrags, s.Fragments.Reassembled, "reassembled")
	m.counter(descFrags, s.Fragments.Expired, "expired")
	m.counter(descFrags, s.Fragments.Evicted, "evicted")
	for i := range s.Faults {
		m.gauge(descFault, truth(s.Faults[i].Stands), s.Faults[i].Fault)
		m.counter(descRaised, s.Faults[i].Raised, s.Faults[i].Fault)
	}
	for _, d := range s.Denials.Totals {
		m.counter(descDenials, d.Packets, d.Site, d.Reason)
	}
	for _, d := range s.Drops {
		m.counter(descDrops, d.Packets, d.Reason)
	}
	m.datagrams(&s.Datagrams)
	if s.Memory.Resident > 0 {
		m.gauge(descResident, float64(s.Memory.Resident))
		m.gauge(descPeak, float64(s.Memory.ResidentPeak))
	}
	m.gauge(descHeap, float64(s.Memory.Heap))
	m.gauge(descRoutines, float64(s.Memory.Goroutines))
	m.gauge(descProcs, float64(s.Process.Processors))
	m.gauge(descUsable, float64(s.Process.Usable))
	m.counter(descFreezes, s.Process.Freezes)
}

// sink is where metrics go.
type sink chan<- prometheus.Metric

func (m sink) site(s *Site) {
	m.gauge(descUnconf, float64(s.Unconfirmed), s.Site)
	m.gauge(descRelaying, truth(s.RelayReason != ""), s.Site)
	for _, r := range s.Records {
		m.counter(descGiven, r.Count, s.Site, r.Result)
	}
	m.counter(descAsked, s.RecordRequests.Answered, s.Site, "records", "answered")
	m.counter(descAsked, s.RecordRequests.Refused, s.Site, "records", "refused")
	m.counter(descAsked, s.Questions.Answered, s.Site, "question", "answered")
	m.counter(descAsked, s.Questions.Refused, s.Site, "question", "refused")
}

func (m sink) datagrams(d *Datagrams) {
	m.counter(descSent, d.Sent)
	m.counter(descReceived, d.Received)
	m.counter(descSentBytes, d.SentBytes)
	m.counter(descRecvBytes, d.ReceivedBytes)
	m.counter(descSplit, d.SplitSends)
	m.counter(descRecvErr, d.ReceiveErrors)
	m.counter(descRepeats, d.HandshakesRepeated)
	m.counter(descNudges, d.NudgesSent, "out")
	m.counter(descNudges, d.NudgesReceived, "in")
	m.counter(descForged, d.Undelivered)
	m.counter(descUnknown, d.UnknownSessions)
	m.counter(descWaits, d.SendWaits, "send")
	m.counter(descWaits, d.ReceiveWaits, "receive")
	m.counter(descResets, d.SendResets, "send")
	for _, r := range d.Drops {
		m.counter(descDatagrams, r.Packets, r.Reason)
	}
}

func (m sink) recordFile(f *RecordFile) {
	m.gauge(descFileRecs, float64(f.Records))
	m.gauge(descFileSize, float64(f.Bytes))
	m.counter(descFileErr, f.WriteErrors)
	m.counter(descFileNew, f.Rewrites)
	m.counter(descFileOver, f.Overflows)
}

// link leaves out what was not measured, as the JSON does.
func (m sink) link(l *Link) {
	id := []string{l.Peer, l.Site}
	m.gauge(descLinkUp, truth(l.State.Carries()), id...)
	for _, state := range LinkStates {
		m.gauge(descLinkState, truth(l.State == state), l.Peer, l.Site, string(state))
	}
	if !l.Since.IsZero() {
		m.gauge(descSince, float64(l.Since.UnixMilli())/1e3, id...)
	}
	m.gauge(descBehind, l.ClockBehind.Float(), id...)
	if !l.LastHandshake.IsZero() {
		m.gauge(descHandshake, float64(l.LastHandshake.UnixMilli())/1e3, id...)
	}
	if l.Measured() {
		m.gauge(descRTT, l.RTT.Float(), id...)
		m.gauge(descRTTVar, l.RTTVar.Float(), id...)
		m.gauge(descLoss, l.LossOut, l.Peer, l.Site, "out")
		m.gauge(descLoss, l.LossIn, l.Peer, l.Site, "in")
		m.gauge(descSkew, l.ClockSkew.Float(), id...)
	}
	if l.MTUOut > 0 {
		m.gauge(descLinkMTU, float64(l.MTUOut), l.Peer, l.Site, "out")
	}
	if l.MTUIn > 0 {
		m.gauge(descLinkMTU, float64(l.MTUIn), l.Peer, l.Site, "in")
	}
	m.counter(descTx, l.TxBytes, id...)
	m.counter(descRx, l.RxBytes, id...)
	m.counter(descHellos, l.HellosSent, l.Peer, l.Site, "out")
	m.counter(descHellos, l.HellosReceived, l.Peer, l.Site, "in")
	var differences [2]int
	for _, d := range l.Differences {
		differences[int(truth(d.Fatal))]++
	}
	for i, n := range differences {
		m.gauge(descDiff, float64(n), l.Peer, l.Site, strconv.FormatBool(i == 1))
	}
	m.gauge(descDuplicate, truth(len(l.Duplicates) > 0), id...)
}

// way leaves out what was not measured, too.
func (m sink) way(w *Way) {
	if w.Measured() {
		m.gauge(descWayRTT, w.RTT.Float(), w.Node, w.Site)
	}
	if w.Bandwidth > 0 {
		m.gauge(descWayRate, float64(w.Bandwidth), w.Node, w.Site)
	}
	m.counter(descWaySent, w.Sent, w.Node, w.Site)
	m.counter(descWayLost, w.Lost, w.Node, w.Site)
}

func (m sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (m sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
