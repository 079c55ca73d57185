package status

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Role is a node's part in its site.
type Role string

const (
	// RoleWaiting has just started and listens for an active node.
	RoleWaiting Role = "waiting"
	// RoleStandby is ready to take over.
	RoleStandby Role = "standby"
	// RoleActive carries the site's subnets.
	RoleActive Role = "active"
	// RoleSuspended was active when its process was frozen, and asks whether it still is.
	RoleSuspended Role = "suspended"
)

// Roles are all roles, in the order of a node's life.
var Roles = [...]Role{RoleWaiting, RoleStandby, RoleActive, RoleSuspended}

// HA is a node's view of its pair. A node without a sibling has none.
type HA struct {
	// Time is when the snapshot was taken, on the clock that all other times are of.
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	Site string    `json:"site"`
	Role Role      `json:"role"`
	// Why says in words how the node came to its role, and Since when.
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	// Active is the node of the site's highest claim, empty while none is known, and Epoch the
	// number of that claim.
	Active string `json:"active,omitempty"`
	Epoch  uint64 `json:"epoch,omitzero"`
	// EpochUnsaved says why the epoch could not be stored, empty when it is. After a restart the
	// clock makes up for it.
	EpochUnsaved string `json:"epoch_unsaved,omitempty"`
	Health       Health `json:"health"`
	// Problems say what keeps a takeover from being without loss, and what to do, the gravest
	// first. None: the pair is protected.
	Problems []string `json:"problems"`
	// Sibling is the other node of the pair, Witnesses are the nodes of other sites, which are
	// asked whether they hear it.
	Sibling   Sibling   `json:"sibling"`
	Witnesses []Witness `json:"witnesses"`
	Records   Records   `json:"records"`
	VIP       VIP       `json:"vip"`
	// Carriers say to which node this one sends what is for each site, its own included.
	Carriers []Carrier `json:"carriers"`
	// Takeovers by this node since its start: planned ones are drains and failovers ordered by an
	// operator.
	Planned   uint64 `json:"failovers_planned_total"`
	Unplanned uint64 `json:"failovers_unplanned_total"`
	// LastFailover is how a node last became active, as far as this one knows.
	LastFailover *Failover `json:"last_failover,omitempty"`
	// Handover is one under way.
	Handover *Handover `json:"handover,omitempty"`
}

// MarshalJSON writes empty lists as [], as Status does.
func (h HA) MarshalJSON() ([]byte, error) {
	type plain HA
	h.Problems = notNil(h.Problems)
	h.Witnesses = notNil(h.Witnesses)
	h.VIP.Addresses = notNil(h.VIP.Addresses)
	h.Carriers = notNil(h.Carriers)
	return json.Marshal(plain(h))
}

// Health is what makes a node fit to be active.
type Health struct {
	// LAN is true while the interface toward the site's hosts is up, or when there is none.
	LAN bool `json:"lan"`
	// Plane is true while packets make progress through the gateway.
	Plane bool `json:"plane"`
	// Reach is how many other sites answer.
	Reach int `json:"sites_reached"`
}

// SiblingState says whether the sibling is there.
type SiblingState string

const (
	// SiblingUnheard was never heard since this node's start.
	SiblingUnheard SiblingState = "unheard"
	// SiblingUp sends its heartbeats in time.
	SiblingUp SiblingState = "up"
	// SiblingSilent was heard, but not for the last dead_after.
	SiblingSilent SiblingState = "silent"
	// SiblingRefused is there, but no pair is formed with it, because of Sibling.Refused.
	SiblingRefused SiblingState = "refused"
)

// Sibling is what a node knows of the other node of its pair. Role and Health are of its last
// heartbeat.
type Sibling struct {
	Node      string       `json:"node"`
	State     SiblingState `json:"state"`
	LastHeard time.Time    `json:"last_heard,omitzero"`
	// Role is empty before it was heard.
	Role   Role    `json:"role,omitempty"`
	Health *Health `json:"health,omitempty"`
	// Refused says in words why no pair is formed; the settings that differ are listed with its
	// Link.
	Refused string `json:"refused,omitempty"`
}

// Witness is a node of another site.
type Witness struct {
	Node string `json:"node"`
	Site string `json:"site"`
	// HeardAgo is the time since its last message; nil when there was none.
	HeardAgo *Seconds `json:"heard_ago_seconds,omitempty"`
	// HearsUs is true when it says that it hears this node.
	HearsUs bool `json:"hears_us"`
	// Unauthentic counts the statements in the sibling's name that it has carried and that the
	// sibling did not make. Other than zero, the node is broken or hostile.
	Unauthentic uint64 `json:"unauthenticated_total"`
}

// Records is how far the records of connections are the same on both nodes.
type Records struct {
	// Held are the records on this node.
	Held int `json:"held"`
	// Lag is how many updates the sibling has not acknowledged yet; zero on a standby, which sends
	// none.
	Lag int `json:"lag_updates"`
	// Sent is how many updates were sent to the sibling since the start. SentBytes is the size of
	// all messages about records that were, acknowledgements and digests included, without the
	// headers of IP, UDP and WireGuard.
	Sent      uint64 `json:"sent_updates_total"`
	SentBytes uint64 `json:"sent_bytes_total"`
	// Messages are those of SentBytes, Retransmits the ones among them that were sent again, and
	// Repairs the groups of records that were sent again since they differed, or for the first
	// time.
	Messages    uint64 `json:"messages_total"`
	Retransmits uint64 `json:"retransmits_total"`
	Repairs     uint64 `json:"repairs_total"`
	// Applied and Removed are the sibling's updates that this node has carried out.
	Applied uint64 `json:"applied_total"`
	Removed uint64 `json:"removed_total"`
	// Refused records were beyond the limits and are not replicated. Overflows of the queue were
	// each repaired.
	Refused   uint64 `json:"refused_total"`
	Overflows uint64 `json:"overflows_total"`
	// Sessions are how often replication began.
	Sessions uint64 `json:"sessions_total"`
	// InSync is true when a takeover now would lose no record older than the lag.
	InSync bool `json:"in_sync"`
	// DigestEqual says whether the last comparison found both nodes to hold the same; nil before
	// the first one.
	DigestEqual *bool `json:"digest_equal,omitempty"`
	// Repairing is how many of the 256 groups of records that a comparison found to differ are yet
	// to be sent again.
	Repairing int `json:"repairing_groups"`
}

// VIP is the address that the site's hosts have as next hop. None where each host runs its own
// gateway.
type VIP struct {
	Addresses []netip.Addr `json:"addresses"`
	// Held is true while this node answers for them.
	Held bool `json:"held"`
	// Claims is how often a host other than the sibling claimed one of them, and Conflict the last
	// time.
	Claims   uint64       `json:"foreign_claims_total"`
	Conflict *VIPConflict `json:"conflict,omitempty"`
	// These count messages of ARP and of neighbor discovery. Requests asked for an address while
	// this node held it, and Answers were sent to them. Announcements were sent unasked, and Probes
	// asked whether another host has an address. The kernel refused to send what SendErrors counts.
	Requests      uint64 `json:"requests_total"`
	Answers       uint64 `json:"answers_total"`
	Announcements uint64 `json:"announcements_total"`
	Probes        uint64 `json:"probes_total"`
	SendErrors    uint64 `json:"send_errors_total"`
}

// ConflictLasts is how long a claim counts as a present conflict: this node probes for one each 30
// s.
const ConflictLasts = 2 * time.Minute

// VIPConflict is a claim of the LAN's address by a host that is no node of the pair.
type VIPConflict struct {
	MAC     string     `json:"mac"`
	Address netip.Addr `json:"address"`
	At      time.Time  `json:"at"`
}

// Carrier is the node to which the packets for a site go. Node is empty while none is known, Epoch
// zero while only the configuration says so.
type Carrier struct {
	Site  string `json:"site"`
	Node  string `json:"node,omitempty"`
	Epoch uint64 `json:"epoch,omitzero"`
}

// Failover is how a node became active.
type Failover struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	// Planned is true when an operator asked for it.
	Planned bool `json:"planned"`
	// From is the node that was active before, empty when there was none; To the one that took over
	// with Epoch.
	From  string `json:"from,omitempty"`
	To    string `json:"to"`
	Epoch uint64 `json:"epoch"`
	// Phases are empty on a node that handed over: the other one knows them.
	Phases Phases `json:"phases_ms,omitzero"`
}

// Phases are the steps of a failover, each counted from its beginning: from when the dead node was
// last heard, or from when an operator asked. A step that was not taken is zero, and left out; so
// are all of them on a node that handed over, since only the one that took over knows them.
type Phases struct {
	// Asked: the first question went to a witness.
	Asked Millis `json:"asked,omitzero"`
	// Detected: the decision was taken.
	Detected Millis `json:"detected,omitzero"`
	// Claimed: the claim left, and Acknowledged: the first node of another site confirmed it.
	Claimed      Millis `json:"claimed,omitzero"`
	Acknowledged Millis `json:"acknowledged,omitzero"`
	// Address: this node began to answer for the LAN address, and Announced: the first announcement
	// of it was sent. Both may precede the claim where an operator asked.
	Address   Millis `json:"address,omitzero"`
	Announced Millis `json:"announced,omitzero"`
	// Total is when everything was done.
	Total Millis `json:"total,omitzero"`
}

// Handover is a planned change of the active node that has begun and not ended.
type Handover struct {
	To     string  `json:"to"`
	Reason string  `json:"reason"`
	Age    Seconds `json:"age_seconds"`
	Forced bool    `json:"forced"`
}

// HATest is the proof, without touching the wire, that a standby could take over: a comparison of
// the digests of both nodes' records.
type HATest struct {
	// Node is the standby that was tested.
	Node string `json:"node"`
	// Records are those that the node which was asked holds.
	Records int `json:"records"`
	// DigestEqual says whether the last comparison found both nodes to hold the same; nil before
	// the first one.
	DigestEqual *bool `json:"digest_equal,omitempty"`
	// OK is true when a takeover now would lose nothing; else Problems say in words what is wrong
	// and what to do.
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
}

// MarshalJSON writes an empty list as [].
func (t HATest) MarshalJSON() ([]byte, error) {
	type plain HATest
	t.Problems = notNil(t.Problems)
	return json.Marshal(plain(t))
}
