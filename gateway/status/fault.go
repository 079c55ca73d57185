package status

import (
	"fmt"
	"strings"
	"time"
)

// Fault is one thing that keeps a node from serving its site, whether it stands now or not.
type Fault struct {
	Fault string `json:"fault"`
	// Stands is true while the node takes the fault into account.
	Stands bool `json:"stands"`
	// Raised counts how often the fault was found, since the start.
	Raised uint64 `json:"raised_total"`
	// The rest is empty unless the fault stands. Part is what does not work: lan, plane, or none
	// where traffic still passes.
	Part  string    `json:"part,omitempty"`
	What  string    `json:"what,omitempty"`
	Do    string    `json:"do,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// Disabling reports whether the node cannot serve its site while the fault stands.
func (f *Fault) Disabling() bool { return f.Stands && f.Part != "none" }

// unfit describes the faults that keep the node from serving, a line each; "" when there are none.
func unfit(faults []Fault) string {
	var out strings.Builder
	for i := range faults {
		if f := &faults[i]; f.Disabling() {
			fmt.Fprintf(&out, "%s: %s; %s\n", f.Fault, f.What, f.Do)
		}
	}
	return out.String()
}
