package policy

import "fmt"

// Mode says how the TCP flows of a rule travel; its text is the configuration's.
type Mode uint8

const (
	// ModeAuto opens raw, and relays a flow while it moves bulk over a WAN. The default.
	ModeAuto Mode = iota
	// ModeRelay relays from the first byte.
	ModeRelay
	// ModeRoute forwards packet by packet for life.
	ModeRoute
)

var modeNames = [...]string{ModeAuto: "auto", ModeRelay: "relay", ModeRoute: "route"}

func (m Mode) valid() bool { return int(m) < len(modeNames) }

// String returns the mode's word in the configuration.
func (m Mode) String() string {
	if !m.valid() {
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
	return modeNames[m]
}

// ParseMode reads a mode's word.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return ModeAuto, fmt.Errorf("unknown mode %q: use auto, relay or route", s)
}
