package reset

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/epoch"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/ha"
)

// TestReset: an epoch that other nodes accept is left alone without force, one that is too far
// ahead of the clock is cleared, and a node that runs is left alone.
func TestReset(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration
		force bool
		want  string // of the error
	}{
		{"accepted", -time.Hour, false, "use --force"},
		{"accepted, forced", -time.Hour, true, ""},
		{"too far ahead", ha.MaxAhead + time.Hour, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := partstest.Network()
			cfg.Local.StateDir = t.TempDir()
			f, err := epoch.Open(cfg.Local.StateDir)
			if err != nil {
				t.Fatal(err)
			}
			old := uint64(time.Now().Add(c.ahead).UnixMilli())
			if err := f.Store(old); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := Reset(cfg, c.force)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatal(err)
			}
			if r.Old != old || r.Sibling != "red-2" || (r.Ahead-c.ahead).Abs() > time.Minute {
				t.Errorf("%+v", r)
			}
			if f, err = epoch.Open(cfg.Local.StateDir); err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got := f.Epoch(); (got == 0) != (c.want == "") {
				t.Errorf("the file holds %d", got)
			}
		})
	}
	cfg := partstest.Network()
	cfg.Local.StateDir = t.TempDir()
	lock, err := records.Lock(cfg.Local.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := Reset(cfg, true); err == nil {
		t.Error("the epoch of a node that runs was reset")
	}
}

func TestAheadOf(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	for epoch, want := range map[uint64]time.Duration{
		1_790_000_000_000: 0,
		1_790_000_001_000: time.Second,
		1_789_999_999_000: -time.Second,
		math.MaxUint64:    math.MaxInt64 / time.Millisecond * time.Millisecond,
	} {
		if got := aheadOf(epoch, now); got != want {
			t.Errorf("%d: %v, want %v", epoch, got, want)
		}
	}
}
