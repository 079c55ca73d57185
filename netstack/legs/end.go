package legs

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// End is why a relay has ended.
type End struct {
	// Cause is the name that counters use, Why a phrase for people.
	Cause, Why string
	// Clean says that nothing is wrong: the connection has ended or is idle.
	Clean bool
	// Never says that the connection is not to be relayed again.
	Never bool
}

// The ends that relays come to. All but the clean ones are anomalies, and the
// connection goes on raw.
var (
	endIdle  = End{Cause: "idle", Why: "idle", Clean: true}
	endThere = End{Cause: "ended-there", Why: "the other gateway has ended it", Clean: true}
	endOver  = End{Cause: "over", Why: "the connection has ended", Clean: true}
	endReset = End{Cause: "reset", Why: "reset", Clean: true}
	endRoute = End{Cause: "rule-says-route", Why: "its rule is route now", Clean: true}

	endForgotten = End{Cause: "forgotten", Why: "the flow has ended"}
	endRevoked   = End{Cause: "revoked", Why: "no rule allows it anymore"}
	endTrunk     = End{Cause: "trunk-ended", Why: "the trunk has ended"}
	endSequence  = End{Cause: "out-of-sequence", Why: "a frame was out of sequence"}
	endNonsense  = End{Cause: "bad-frame", Why: "protocol error from the peer gateway"}
	endRefused   = End{Cause: "refused", Why: "refused by the peer gateway"}
	endNoAnswer  = End{Cause: "no-answer", Why: "the other gateway has not answered"}
	endStall     = End{Cause: "stall", Why: "nothing was acknowledged for a second"}
	endBeyond    = End{Cause: "beyond", Why: "the far database has acknowledged what the leg does not have"}
	endLeg       = End{Cause: "leg-failed", Why: "the leg has failed"}
	endRule      = End{Cause: "rule-broken", Why: "a segment was not backed by what the far database has sent", Never: true}
	endUrgent    = End{Cause: "urgent", Why: "urgent data", Never: true}
	endWindow    = End{Cause: "past-window", Why: "the other gateway has sent more than the near database's window takes"}
	endPastFin   = End{Cause: "past-fin", Why: "a database goes on after its FIN", Never: true}

	// EndFrozen and the following are for callers that release connections.
	EndFrozen    = End{Cause: "frozen", Why: "this process was frozen"}
	EndClosing   = End{Cause: "closing", Why: "the gateway is being closed"}
	EndStandby   = End{Cause: "standby", Why: "the sibling has taken over"}
	EndLinkDown  = End{Cause: "link-down", Why: "the link is down"}
	EndRestarted = End{Cause: "restarted", Why: "the other gateway was restarted"}
	EndDrained   = End{Cause: "drained", Why: "this node is about to hand over", Clean: true}
	EndMoved     = End{Cause: "moved", Why: "another node carries the other site"}
)

// ends lists them, so that each has a counter from the start.
var ends = [...]*End{
	&endIdle, &endThere, &EndDrained, &endOver, &endReset, &endRoute, &endForgotten, &endRevoked, &endTrunk, &endSequence, &endNonsense,
	&endRefused, &endNoAnswer, &endStall, &endBeyond, &endLeg, &endRule, &endUrgent, &endPastFin, &endWindow,
	&EndFrozen, &EndClosing, &EndStandby, &EndLinkDown, &EndRestarted, &EndMoved,
}

// because adds to the phrase.
func (e End) because(why string) End {
	e.Why += ": " + why
	return e
}

// maxReason is how many bytes of another gateway's text are kept, for people to read.
const maxReason = 200

// printable returns the text that another gateway has sent as far as it may be kept and shown: at
// most maxReason bytes, without characters that a terminal acts on.
func printable(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxReason {
			break
		}
		b.WriteRune(r)
		text = text[n:]
	}
	return b.String()
}
