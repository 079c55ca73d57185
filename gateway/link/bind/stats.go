package bind

import "sync/atomic"

// A Reason names why a datagram went no further.
type Reason uint8

// The reasons, in the order of Stats.Drops.
const (
	// SendTooBig: the datagram is longer than the interface's MTU allows
	// (EMSGSIZE). Path MTU probes end here, too.
	SendTooBig Reason = iota
	// SendNoRoute: no route to the peer (ENETUNREACH, EHOSTUNREACH, ENETDOWN).
	SendNoRoute
	// SendNoBuffer: the kernel had no memory for it (ENOBUFS, ENOMEM).
	SendNoBuffer
	// SendForbidden: a local firewall refused it (EPERM, EACCES).
	SendForbidden
	// SendFailed: any other error from the kernel.
	SendFailed
	// SendMayNotDial: a handshake initiation to a peer that this side may not
	// dial, or that it doesn't know.
	SendMayNotDial
	// SendMayNotAnswer: a handshake response to a peer that may not dial this node, or
	// that it doesn't know.
	SendMayNotAnswer
	// ReceiveInitiation: a handshake initiation arrived, and no peer may dial
	// this node.
	ReceiveInitiation
	// ReceiveBadMAC: a handshake message whose mac1 is not keyed by this node's public
	// key: from a peer that has another key for this node, or from a stranger.
	ReceiveBadMAC
	// ReceiveMalformed: too short or too long to be a WireGuard message.
	ReceiveMalformed
	// ReceiveUnknownType: neither a WireGuard message nor a nudge.
	ReceiveUnknownType
	// ReceiveNudgeRefused: a nudge of another version, one quoting a session
	// that this node doesn't use at that address, or one too many.
	ReceiveNudgeRefused
	// Frozen: a data packet that was at hand when the process woke up from
	// standing still, in either direction (see Config.Alive).
	Frozen
	// NumReasons is the number of reasons above.
	NumReasons
)

var reasonNames = [NumReasons]string{
	SendTooBig:          "send-too-big",
	SendNoRoute:         "send-no-route",
	SendNoBuffer:        "send-no-buffer",
	SendForbidden:       "send-forbidden",
	SendFailed:          "send-failed",
	SendMayNotDial:      "send-may-not-dial",
	SendMayNotAnswer:    "send-may-not-answer",
	ReceiveInitiation:   "receive-initiation",
	ReceiveBadMAC:       "receive-bad-mac",
	ReceiveMalformed:    "receive-malformed",
	ReceiveUnknownType:  "receive-unknown-type",
	ReceiveNudgeRefused: "receive-nudge-refused",
	Frozen:              "frozen",
}

// String returns the reason's name, fit for a metric label.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Stats is a snapshot of the counters of a Bind and its Carrier, which live as long as these.
type Stats struct {
	CarrierStats // with the Drops of both

	// Repeats counts handshake messages sent again because no answer came.
	Repeats uint64
	// UnknownSessions counts transport messages for a session that this
	// process never had: the peer has yet to learn of a restart.
	UnknownSessions uint64
	// NudgesSent and NudgesReceived count nudges; refused ones are in Drops.
	NudgesSent     uint64
	NudgesReceived uint64
}

// DropsByName returns Drops by the names of the reasons.
func (s *CarrierStats) DropsByName() map[string]uint64 {
	byName := make(map[string]uint64, NumReasons)
	for r, n := range s.Drops {
		byName[Reason(r).String()] = n
	}
	return byName
}

type counters struct {
	drops                      [NumReasons]atomic.Uint64
	repeats, unknownSessions   atomic.Uint64
	nudgesSent, nudgesReceived atomic.Uint64
}

func (c *counters) drop(r Reason) { c.drops[r].Add(1) }

// Stats returns the counters of the Bind and its Carrier. It may be called at any time.
func (b *Bind) Stats() Stats {
	c := &b.counters
	s := Stats{
		CarrierStats:    b.carrier.Stats(),
		Repeats:         c.repeats.Load(),
		UnknownSessions: c.unknownSessions.Load(),
		NudgesSent:      c.nudgesSent.Load(),
		NudgesReceived:  c.nudgesReceived.Load(),
	}
	for i := range c.drops {
		s.Drops[i] += c.drops[i].Load()
	}
	return s
}
