package status

import (
	"encoding/json"
	"fmt"
	"time"
)

// LinkState is where a link stands.
type LinkState string

const (
	// LinkDown has no session, and neither node is trying to make one.
	LinkDown LinkState = "down"
	// LinkEstablishing is dialling, or has a session and waits for the first answer.
	LinkEstablishing LinkState = "establishing"
	// LinkUp has an answer to its last hello.
	LinkUp LinkState = "up"
	// LinkLost was up; its hellos are no longer answered and the session is being renewed.
	LinkLost LinkState = "lost"
	// LinkSilent has a session with a peer that sends no gw hello: a stock WireGuard, or a gateway
	// that was shut out. It carries packets.
	LinkSilent LinkState = "silent"
	// LinkRefused speaks to its peer but carries nothing, because of Link.Refused.
	LinkRefused LinkState = "refused"
)

// LinkStates are all states, in the order of a link's life.
var LinkStates = [...]LinkState{LinkDown, LinkEstablishing, LinkUp, LinkLost, LinkSilent, LinkRefused}

// Carries says whether packets of flows pass.
func (s LinkState) Carries() bool { return s == LinkUp || s == LinkSilent }

// Link is the tunnel to one node of another site (or to the sibling).
type Link struct {
	// Peer and Site name the other node and where it belongs.
	Peer  string    `json:"peer"`
	Site  string    `json:"site"`
	State LinkState `json:"state"`
	// Since is when the link came into its state; zero when it never left the first.
	Since time.Time `json:"since,omitzero"`
	// Endpoint is the peer's outer address and port, empty while unknown.
	Endpoint string `json:"endpoint,omitempty"`
	// Initiator is true when this node dials the peer, false when it waits to be dialled.
	Initiator bool `json:"initiator"`
	// LastHandshake is when the last WireGuard handshake was completed.
	LastHandshake time.Time `json:"last_handshake,omitzero"`
	// RTT is the smoothed round trip inside the tunnel and RTTVar its mean deviation (RFC 6298,
	// section 2); zero when not measured.
	RTT    Seconds `json:"rtt_seconds,omitzero"`
	RTTVar Seconds `json:"rtt_var_seconds,omitzero"`
	// LossOut and LossIn are the parts of recent hellos that did not arrive there and here, 0 to 1;
	// see Measured.
	LossOut float64 `json:"loss_out_ratio"`
	LossIn  float64 `json:"loss_in_ratio"`
	// MTUOut is the largest IP packet known to pass to the peer inside the tunnel, MTUIn the same
	// from the peer, in bytes; zero when not measured.
	MTUOut int `json:"mtu_out_bytes,omitzero"`
	MTUIn  int `json:"mtu_in_bytes,omitzero"`
	// TxBytes and RxBytes are what WireGuard has sent and received since the start.
	TxBytes uint64 `json:"tx_bytes"`
	RxBytes uint64 `json:"rx_bytes"`
	// HellosSent and HellosReceived are the hellos that both gateways exchange all the time.
	HellosSent     uint64 `json:"hellos_sent_total"`
	HellosReceived uint64 `json:"hellos_received_total"`
	// Protocol is the version of the peer's hellos; zero while it has sent none.
	Protocol uint8 `json:"protocol,omitzero"`
	// Version is the peer's software version, empty while it has said none.
	Version string `json:"version,omitempty"`
	// Differences are the settings in which the two configurations disagree, by attribute name.
	Differences []Difference `json:"differences,omitempty"`
	// DifferencesOmitted counts further differences, which the gateway does not keep.
	DifferencesOmitted int `json:"differences_omitted,omitzero"`
	// Duplicates are the keys, the peer's or this node's own, that two processes use at once.
	Duplicates []Duplicate `json:"duplicates,omitempty"`
	// Refused says in words why the link carries nothing; empty unless State is LinkRefused.
	Refused string `json:"refused,omitempty"`
	// ClockSkew is the peer's wall clock minus this node's, at the last hello; see Measured.
	ClockSkew Seconds `json:"clock_skew_seconds"`
	// ClockBehind is by how much this node's clock stands behind the time of its own last
	// handshake; as long as it does, WireGuard peers take new handshakes for replays.
	ClockBehind Seconds `json:"clock_behind_seconds,omitzero"`
}

// MarshalJSON leaves out what only hellos can measure while none has come back: a loss of zero
// would look like a splendid link.
func (l Link) MarshalJSON() ([]byte, error) {
	type plain Link
	out := struct {
		plain
		LossOut   *float64 `json:"loss_out_ratio,omitempty"`
		LossIn    *float64 `json:"loss_in_ratio,omitempty"`
		ClockSkew *Seconds `json:"clock_skew_seconds,omitempty"`
	}{plain: plain(l)}
	if l.Measured() {
		out.LossOut, out.LossIn, out.ClockSkew = &l.LossOut, &l.LossIn, &l.ClockSkew
	}
	return json.Marshal(out)
}

// Measured says whether hellos have come back, so that round trip, loss and clock skew mean
// something.
func (l Link) Measured() bool { return l.RTT > 0 }

// DifferenceKind says how an attribute differs between the two configurations.
type DifferenceKind string

const (
	// OnlyHere is set in this node's configuration and not in the peer's.
	OnlyHere DifferenceKind = "only_here"
	// OnlyThere is set in the peer's configuration and not in this node's.
	OnlyThere DifferenceKind = "only_there"
	// Differs has two values.
	Differs DifferenceKind = "differs"
)

// Difference is one setting in which the two configurations disagree. Values never leave a site, so
// there are none here.
type Difference struct {
	// Attribute is the full dotted name, like link.red.gray.keepalive.
	Attribute string         `json:"attribute"`
	Kind      DifferenceKind `json:"kind"`
	// Fatal differences would fail silently later: a link that starts with one is refused.
	Fatal bool `json:"fatal"`
}

// Duplicate tells that two processes use one private key, which makes each cut the other off.
type Duplicate struct {
	// Node is the one whose key is used twice: the peer or this node.
	Node string `json:"node"`
	// Endpoints are the outer addresses from which the two were heard.
	Endpoints []string `json:"endpoints"`
}

// unprotected lists for a node of a pair, which is ready, why the loss of the active node would
// break connections.
func unprotected(h *HA) (text string) {
	if h == nil {
		return ""
	}
	for _, p := range h.Problems {
		text += "not protected: " + p + "\n"
	}
	return text
}

// notReady says why a node with these links can't carry packets for anybody; empty when it can.
func notReady(links []Link) string {
	if len(links) == 0 {
		return ""
	}
	var why string
	for _, l := range links {
		if l.State.Carries() {
			return ""
		}
		why += fmt.Sprintf("link to %s is %s\n", l.Peer, l.State)
	}
	return why
}
