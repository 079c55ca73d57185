// Package doctor judges what a gateway says of itself and what its host is like,
// and says what to do: one [Check] each, worst news included. It looks at
// snapshots only, which its callers pass.
package doctor

import (
	"time"
)

// Level says how bad a Check is.
type Level string

// The levels.
const (
	OK Level = "ok"
	// Warning is what hurts some traffic, or will.
	Warning Level = "warning"
	// Failure is what keeps the gateway from its work.
	Failure Level = "failure"
)

// A Check is one thing that was looked at.
type Check struct {
	// Area is host, gateway, link, policy, pair, address or disk.
	Area  string `json:"area"`
	Name  string `json:"name"`
	Level Level  `json:"level"`
	// What was found, in one line, and what to Do about it; Do is empty when all is well.
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

// Report is one examination.
type Report struct {
	Node string    `json:"node"`
	Site string    `json:"site"`
	Time time.Time `json:"time"`
	// Running says whether a gateway runs. Without one only host and disk are looked at.
	Running bool    `json:"running"`
	Checks  []Check `json:"checks"`
}

// Worst is the worst level of all checks.
func (r Report) Worst() Level {
	worst := OK
	for _, c := range r.Checks {
		if c.Level == Failure || worst == OK {
			worst = c.Level
		}
		if worst == Failure {
			break
		}
	}
	return worst
}
