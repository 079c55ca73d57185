package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

func TestMain(m *testing.M) {
	before := load()
	code := lab.Main(m)
	if len(tables) > 0 {
		fmt.Printf("\nLoad average of the machine before %s, after %s.\n", before, load())
	}
	for _, t := range tables {
		fmt.Print(t)
	}
	os.Exit(code)
}

// load is the machine's load average over one minute. Anything that runs beside
// a benchmark shows in its figures.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// rounds is how often each contestant is measured.
const rounds = 5

// patience bounds all that a benchmark waits for.
const patience = 5 * time.Minute

// each calls measure for every contestant, round by round, in an order that
// changes, so that none always runs behind the same other.
func each(b *testing.B, all []*contestant, measure func(ctx context.Context, c *contestant)) {
	b.Helper()
	eachOf(b, all, rounds, measure)
}

// eachOf is each with another number of rounds, for slow measurements.
func eachOf(b *testing.B, all []*contestant, rounds int, measure func(ctx context.Context, c *contestant)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for round := range rounds {
		for i := range all {
			measure(ctx, all[(i+round)%len(all)])
		}
	}
}

// samples are the values that one figure had: contestant's name to its values.
type samples map[string][]float64

func (s samples) add(c *contestant, v float64) { s[c.name] = append(s[c.name], v) }

// median of what was measured; false if nothing was.
func (s samples) median(name string) (float64, bool) {
	v := slices.Sorted(slices.Values(s[name]))
	if len(v) == 0 {
		return 0, false
	}
	return v[len(v)/2], true
}
