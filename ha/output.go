package ha

import "time"

// Kind is what an Output requests.
type Kind uint8

// What the owner of a Machine has to do.
const (
	// Send carries Payload to node To, through its tunnel. It may get lost.
	Send Kind = iota + 1
	// Knock asks the host of Node, the sibling, outside the tunnel, whether the tunnel's
	// port is open. If it is closed, call Gone; otherwise do nothing.
	Knock
	// Persist stores Epoch before the outputs that follow are carried out; after a restart
	// it is Config.Seen.
	Persist
	// Prepare: the active node hands over. Take over the address, announce it, and let the
	// hosts' packets wait: an Activate follows a moment later, when the former active node
	// has sent what the hosts sent to it.
	Prepare
	// Activate makes this node the active one, from Epoch on: records, address,
	// announcement. It may be repeated with a higher Epoch.
	Activate
	// Deactivate releases the site's address; Node is the active one, where known.
	Deactivate
	// Suspend: this process was frozen, and another node may have replaced it. Write
	// nothing until Resume or Deactivate.
	Suspend
	// Resume ends Suspend.
	Resume
	// Assign routes Site's shared subnets to Node. When Site is the own one, Node
	// is this node or its sibling. Epoch is 0 where the configuration alone decides.
	Assign
	// Report is an Event for log and status.
	Report
)

// String names the kind for logs and traces.
func (k Kind) String() string {
	return [...]string{"none", "send", "knock", "persist", "prepare", "activate", "deactivate", "suspend", "resume", "assign", "report"}[k]
}

// Output is one thing to do. Kind determines which fields have a meaning.
type Output struct {
	Kind    Kind
	To      NodeID
	Payload []byte // valid until the next call of the Machine
	Site    string
	Node    NodeID
	Epoch   uint64
	Event   *Event
}

// EventKind is what an Event reports.
type EventKind uint8

// What is worth a line in the log.
const (
	EventRole        EventKind = iota + 1 // Role and Reason are new
	EventClaim                            // Node claimed Site with Epoch
	EventSuspect                          // Node, the sibling, has timed out
	EventHeard                            // Node, the sibling, is reachable again
	EventImplausible                      // Node sent an Epoch too far ahead: its clock or ours is wrong
	EventHandover                         // a handover to Node began, for Reason
	EventRefused                          // Node refused the handover, for Reason
	EventTimeout                          // Node did not take over in time
	EventFailover                         // this node's claim was acknowledged; Failover has the phases
	EventUnauthentic                      // Node has carried Count statements that no node of this site made
)

// String is the event as a constant log message.
func (k EventKind) String() string {
	return [...]string{
		"none", "role changed", "claim received", "sibling timed out", "sibling reachable again", "implausible epoch refused",
		"handover requested", "handover refused", "handover timed out", "failover acknowledged",
		"unauthenticated statement ignored",
	}[k]
}

// Event is something to log or show.
type Event struct {
	Kind     EventKind
	Role     Role
	Reason   Reason
	Site     string
	Node     NodeID
	Epoch    uint64
	Count    uint64
	Failover *Failover
}

// Reason is why something happened, in words for an operator.
type Reason string

// Reasons of role changes, handovers and refusals.
const (
	ReasonStart         Reason = "started; listening for an active node"
	ReasonAlone         Reason = "the site has one node"
	ReasonNobody        Reason = "no other node seen within 3 s of the start"
	ReasonVacant        Reason = "no node of the site was active"
	ReasonDead          Reason = "the sibling timed out, and no witness sees it"
	ReasonActiveHeard   Reason = "another node is active"
	ReasonHigherClaim   Reason = "the sibling has the higher claim"
	ReasonHearsay       Reason = "another site reported the sibling's higher claim"
	ReasonBehind        Reason = "a higher epoch was seen"
	ReasonHealth        Reason = "the sibling reaches more sites, or this node's LAN or data plane fails"
	ReasonSiblingWorse  Reason = "the sibling reaches fewer sites, or its LAN or data plane fails"
	ReasonDrain         Reason = "drained by an operator"
	ReasonTakeover      Reason = "taken over by an operator"
	ReasonFrozen        Reason = "the process was frozen"
	ReasonConfirmed     Reason = "no node claimed while the process was frozen"
	ReasonUnconfirmed   Reason = "no node answered after the process was frozen"
	ReasonClocks        Reason = "a wall clock is wrong by more than a day"
	ReasonNotStandby    Reason = "the sibling is not a standby"
	ReasonStale         Reason = "the request named an old epoch"
	ReasonUnfit         Reason = "the standby's LAN or data plane fails, or it reaches fewer sites"
	ReasonRecords       Reason = "the standby's records are incomplete"
	ReasonUnwillingSoon Reason = "the last change was less than 5 s ago"
)

// reasonCodes are the reasons that cross the wire, by number.
var reasonCodes = [...]Reason{1: ReasonHealth, 2: ReasonDrain, 3: ReasonNotStandby, 4: ReasonStale, 5: ReasonUnfit, 6: ReasonRecords, 7: ReasonUnwillingSoon}

func (r Reason) code() uint8 {
	for i, k := range reasonCodes {
		if k == r {
			return uint8(i)
		}
	}
	return 0
}

// Failover is how this node last became active. Each phase counts from the sibling's last
// message, or from the request for a handover.
type Failover struct {
	Reason       Reason
	Epoch        uint64
	At           time.Duration // of the claim, on the Machine's clock
	Asked        time.Duration // the first question left for a witness; 0 when none did
	Detected     time.Duration // the decision was made
	Claimed      time.Duration // the claim left
	Acknowledged time.Duration // the first node of another site confirmed it; 0 before
}

func (m *Machine) emit(o Output) { m.call.out = append(m.call.out, o) }

func (m *Machine) event(e Event) { m.emit(Output{Kind: Report, Event: &e}) }
