package status

var (
	descHARole      = desc("ha_role", "1 for the role that this node of a pair has, 0 for the others.", "role")
	descHAEpoch     = desc("ha_epoch", "Number of the highest claim of this site.")
	descHASibling   = desc("ha_sibling_up", "1 while the sibling's heartbeats arrive and a pair is formed with it.")
	descHAHeard     = desc("ha_sibling_last_heard_timestamp_seconds", "When the sibling was last heard, in seconds since 1970.")
	descHAProtected = desc("ha_protected", "1 while a takeover would lose no connection, as gw ha status judges it.")
	descHARecords   = desc("ha_records", "Records of connections on this node.")
	descHALag       = desc("ha_records_lag", "Updates of records that the sibling has not acknowledged yet.")
	descHASent      = desc("ha_records_sent_total", "Updates of records sent to the sibling.")
	descHASentBytes = desc("ha_records_sent_bytes_total", "Bytes of messages about records sent to the sibling, without headers.")
	descHAMessages  = desc("ha_records_messages_total", "Messages about records sent to the sibling.")
	descHAAgain     = desc("ha_records_retransmits_total", "Messages about records that were sent again.")
	descHARepairs   = desc("ha_records_repairs_total", "Groups of records sent again since they differed, or for the first time.")
	descHAApplied   = desc("ha_records_applied_total", "Updates of the sibling that this node has carried out, by kind.", "kind")
	descHARefused   = desc("ha_records_refused_total", "Records beyond the limits, which are not replicated.")
	descHAOverflow  = desc("ha_records_overflows_total", "Overflows of the queue of updates, each repaired.")
	descHASessions  = desc("ha_records_sessions_total", "Times that the replication of records began.")
	descHARepairing = desc("ha_records_repairing", "Groups of records, of 256, that are yet to be sent again.")
	descHAInSync    = desc("ha_records_in_sync", "1 when a takeover would lose no record older than the lag.")
	descHADigest    = desc("ha_records_digest_equal", "1 when the last comparison found the same records on both nodes.")
	descHAVIP       = desc("ha_vip_held", "1 while this node answers for the pair's LAN address.")
	descHAClaims    = desc("ha_vip_foreign_claims_total", "Claims of the pair's LAN address by hosts other than its nodes.")
	descHARequests  = desc("ha_vip_requests_total", "ARP requests and neighbor solicitations for the LAN address while this node held it.")
	descHAAnswers   = desc("ha_vip_answers_total", "Answers sent to them.")
	descHAAnnounced = desc("ha_vip_announcements_total", "Announcements of the LAN address sent.")
	descHAProbes    = desc("ha_vip_probes_total", "Probes for another owner of the LAN address sent.")
	descHASendErr   = desc("ha_vip_send_errors_total", "Messages about the LAN address that the kernel refused to send.")
	descHAUnsaved   = desc("ha_epoch_unsaved", "1 while the epoch of this site's highest claim could not be stored.")
	descHAForged    = desc("ha_unauthenticated_total", "Statements in the sibling's name that the sibling did not make, by the node that carried them.", "node")
	descHACarrier   = desc("ha_carrier", "1 for the node to which packets for the site go.", "site", "node")
	descHAFailovers = desc("ha_failovers_total", "Takeovers by this node; planned ones were asked for by an operator.", "planned")
	descHALast      = desc("ha_last_failover_timestamp_seconds", "When the site's active node last changed, in seconds since 1970.")
	descHALastTook  = desc("ha_last_failover_seconds", "How long the last change of the active node took.")
)

func (m sink) ha(h *HA) {
	for _, r := range Roles {
		m.gauge(descHARole, truth(h.Role == r), string(r))
	}
	m.gauge(descHAEpoch, float64(h.Epoch))
	m.gauge(descHASibling, truth(h.Sibling.State == SiblingUp))
	if !h.Sibling.LastHeard.IsZero() {
		m.gauge(descHAHeard, float64(h.Sibling.LastHeard.UnixMilli())/1e3)
	}
	m.gauge(descHAProtected, truth(len(h.Problems) == 0))
	m.gauge(descHARecords, float64(h.Records.Held))
	m.gauge(descHALag, float64(h.Records.Lag))
	m.counter(descHASent, h.Records.Sent)
	m.counter(descHASentBytes, h.Records.SentBytes)
	m.counter(descHAMessages, h.Records.Messages)
	m.counter(descHAAgain, h.Records.Retransmits)
	m.counter(descHARepairs, h.Records.Repairs)
	m.counter(descHAApplied, h.Records.Applied, "put")
	m.counter(descHAApplied, h.Records.Removed, "remove")
	m.counter(descHARefused, h.Records.Refused)
	m.counter(descHAOverflow, h.Records.Overflows)
	m.counter(descHASessions, h.Records.Sessions)
	m.gauge(descHARepairing, float64(h.Records.Repairing))
	m.gauge(descHAInSync, truth(h.Records.InSync))
	if equal := h.Records.DigestEqual; equal != nil {
		m.gauge(descHADigest, truth(*equal))
	}
	if len(h.VIP.Addresses) > 0 {
		m.gauge(descHAVIP, truth(h.VIP.Held))
		m.counter(descHAClaims, h.VIP.Claims)
		m.counter(descHARequests, h.VIP.Requests)
		m.counter(descHAAnswers, h.VIP.Answers)
		m.counter(descHAAnnounced, h.VIP.Announcements)
		m.counter(descHAProbes, h.VIP.Probes)
		m.counter(descHASendErr, h.VIP.SendErrors)
	}
	m.gauge(descHAUnsaved, truth(h.EpochUnsaved != ""))
	for _, w := range h.Witnesses {
		m.counter(descHAForged, w.Unauthentic, w.Node)
	}
	for _, c := range h.Carriers {
		if c.Node != "" {
			m.gauge(descHACarrier, 1, c.Site, c.Node)
		}
	}
	m.counter(descHAFailovers, h.Planned, "true")
	m.counter(descHAFailovers, h.Unplanned, "false")
	if f := h.LastFailover; f != nil {
		m.gauge(descHALast, float64(f.At.UnixMilli())/1e3)
		m.gauge(descHALastTook, f.Phases.Total.Duration().Seconds())
	}
}
