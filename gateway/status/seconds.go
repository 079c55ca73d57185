package status

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Seconds is a time.Duration that is a decimal number of seconds in JSON.
type Seconds time.Duration

// Duration returns it as Go's own type.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// Float returns it as a number of seconds.
func (s Seconds) Float() float64 { return time.Duration(s).Seconds() }

// String formats it like a time.Duration.
func (s Seconds) String() string { return time.Duration(s).String() }

// MarshalJSON writes the shortest decimal number that reads back as the same float64.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, s.Float(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("read %q as a number of seconds: %w", b, err)
	}
	*s = Seconds(math.Round(f * float64(time.Second)))
	return nil
}

// Millis is a time.Duration that is a decimal number of milliseconds in JSON.
type Millis time.Duration

// Duration returns it as Go's own type.
func (m Millis) Duration() time.Duration { return time.Duration(m) }

// String formats it like a time.Duration.
func (m Millis) String() string { return time.Duration(m).String() }

// MarshalJSON writes microseconds as decimals; finer than that no step of a gateway is.
func (m Millis) MarshalJSON() ([]byte, error) {
	ms := float64(time.Duration(m).Round(time.Microsecond)) / float64(time.Millisecond)
	return strconv.AppendFloat(nil, ms, 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of milliseconds.
func (m *Millis) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("read %q as a number of milliseconds: %w", b, err)
	}
	*m = Millis(math.Round(f*1e3) * float64(time.Microsecond))
	return nil
}
