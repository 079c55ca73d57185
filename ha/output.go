package ha

import "time"

// Kind says what an Output asks for.
type Kind uint8

// What the owner of a Machine has to do.
const (
	// Send carries Payload to node To, through its tunnel. It may get lost.
	Send Kind = iota + 1
	// Knock asks the host of Node, the sibling, outside the tunnel, whether anybody
	// listens on the tunnel's port. If it says no, call Gone; otherwise do nothing.
	Knock
	// Persist stores Epoch where a restart finds it, before anything that follows
	// is carried out; it comes back as Config.Seen.
	Persist
	// Prepare: the active node hands over. Take the address and announce it, and let
	// what the hosts send here wait: an Activate follows a moment later, when what
	// they sent to the former one has left it.
	Prepare
	// Activate makes this node the active one, from Epoch on: records, address,
	// announcement. It may be repeated with a higher Epoch.
	Activate
	// Deactivate takes the site's address away; Node is the active one, where
	// known.
	Deactivate
	// Suspend: this process was frozen and may have been replaced meanwhile. Write
	// nothing to anybody until Resume or Deactivate.
	Suspend
	// Resume takes Suspend back.
	Resume
	// Assign routes Site's shared subnets to Node. When Site is the own one, Node
	// is this node or its sibling. Epoch is 0 for what the configuration alone says.
	Assign
	// Report is an Event for log and status.
	Report
)

// String names the kind for logs and traces.
func (k Kind) String() string {
	return [...]string{"none", "send", "knock", "persist", "prepare", "activate", "deactivate", "suspend", "resume", "assign", "report"}[k]
}

// Output is one thing to do. Which fields mean something, Kind says.
type Output struct {
	Kind    Kind
	To      NodeID
	Payload []byte // valid until the next call of the Machine
	Site    string
	Node    NodeID
	Epoch   uint64
	Event   *Event
}

// EventKind says what an Event tells of.
type EventKind uint8

// What is worth a line in the log.
const (
	EventRole        EventKind = iota + 1 // Role and Reason are new
	EventClaim                            // Node claimed Site with Epoch
	EventSuspect                          // Node, the sibling, has fallen silent
	EventHeard                            // Node, the sibling, is heard again
	EventImplausible                      // Node told of an Epoch too far ahead: its clock or ours is wrong
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

// Reason says why, in words for an operator.
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

// Failover is how this node last became active, each phase counted from when the
// sibling was last heard, or from when the handover was asked for.
type Failover struct {
	Reason       Reason
	Epoch        uint64
	At           time.Duration // of the claim, on the Machine's clock
	Asked        time.Duration // the first question left for a witness; 0 when none did
	Detected     time.Duration // the decision was taken
	Claimed      time.Duration // the claim left
	Acknowledged time.Duration // the first node of another site confirmed it; 0 before
}

func (m *Machine) emit(o Output) { m.call.out = append(m.call.out, o) }

func (m *Machine) event(e Event) { m.emit(Output{Kind: Report, Event: &e}) }
