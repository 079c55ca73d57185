package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/safefile"
)

// A process that starts with a clock that was set back meanwhile does not know what its peers
// remember of the process before. So the time of the latest handshake with each peer that this node
// dials is kept in a file of the state directory: a line for each, the node's name and the time. It
// decides nothing; it is for naming the cause (PeerStatus.ClockBehind).
const (
	timesName = "handshakes"
	// timesMost bounds what is read, in bytes.
	timesMost = 1 << 20
)

// loadTimes has each peer's clock know the latest handshake of the process before. A file that
// cannot be read costs the explanation only.
func (l *Link) loadTimes() {
	if l.cfg.StateDir == "" {
		return
	}
	path := filepath.Join(l.cfg.StateDir, timesName)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Size() > timesMost {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		l.log.Debug("handshake times can't be read", "file", path, "error", err)
		return
	}
	for line := range strings.Lines(string(b)) {
		node, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		t, err := time.Parse(time.RFC3339Nano, at)
		if p := l.byName[node]; err == nil && p != nil && p.dials() {
			p.clock.used(t)
		}
	}
}

// keepTimes writes the times that storeTimes passes on, until ctx ends.
func (l *Link) keepTimes(ctx context.Context) error {
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case times := <-l.times:
			err := writeTimes(filepath.Join(l.cfg.StateDir, timesName), times)
			if err != nil && !failed {
				l.log.Warn("the time of the latest handshake can't be stored: after a restart a clock that was set back meanwhile is not recognized", "error", err)
			}
			failed = err != nil
		}
	}
}

// storeTimes passes the present times to keepTimes, in place of those that it has not written.
func (l *Link) storeTimes() {
	if l.cfg.StateDir == "" {
		return
	}
	times := map[string]time.Time{}
	for _, p := range l.peers {
		if p.dials() && !p.clock.latest.IsZero() {
			times[p.Node] = p.clock.latest
		}
	}
	select {
	case <-l.times:
	default:
	}
	l.times <- times // the loop alone sends, so there is room
}

func writeTimes(path string, times map[string]time.Time) error {
	const mode fs.FileMode = 0o600
	f, err := safefile.Replace(path, mode)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, node := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprintf(&b, "%s %s\n", node, times[node].UTC().Format(time.RFC3339Nano))
	}
	if _, err := f.WriteString(b.String()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, f.Discard()))
	}
	return f.Commit()
}
