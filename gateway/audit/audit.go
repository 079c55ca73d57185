// Package audit writes who was connected to whom: one line of JSON when a flow
// opens, one when it ends, and one for each change of roles, claim and reload. A
// [Log] never makes its callers wait: lines that find its queue full are lost,
// counted, and the log itself says how many.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Stdout as a Config.To has lines written to standard output, which systemd hands to
// its journal.
const Stdout = "stdout"

// queue is how many lines may wait: a burst of opens that a disk takes a moment for.
const queue = 4096

// batch is how many bytes are written at once, when so many wait.
const batch = 64 << 10

// Event is one line. Empty fields are left out.
type Event struct {
	Time time.Time `json:"time"`
	// Kind is flow_open, flow_end, lost, reload, or what an election calls its events.
	Kind string `json:"event"`
	Node string `json:"node"`
	*Flow
	// Attrs tell more of what is no flow.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Lines is how many lines were lost before this one.
	Lines uint64 `json:"lines,omitempty"`
}

// Flow is who spoke to whom, and by whose leave.
type Flow struct {
	Proto           string         `json:"proto"`
	Source          netip.AddrPort `json:"source"`
	Destination     netip.AddrPort `json:"destination"`
	SourceSite      string         `json:"source_site"`
	DestinationSite string         `json:"destination_site"`
	Rule            string         `json:"rule"`
	RulePos         string         `json:"rule_pos"`
	// Reason is why it ended. One that opens has a reason when it goes on from before: restored,
	// fetched, taken over or resumed. Opened is when it was opened then, as far as that is known.
	Reason string    `json:"reason,omitempty"`
	Opened time.Time `json:"opened,omitzero"`
	// End is nil for a flow that opens.
	*End
}

// End is what came of a flow since the line with which it opened on this node. Bytes are of whole
// IP packets, out of this node's site and into it.
type End struct {
	BytesOut uint64  `json:"bytes_out"`
	BytesIn  uint64  `json:"bytes_in"`
	Duration float64 `json:"duration_seconds"`
	// Carried is raw, or relayed if it was for a time.
	Carried string `json:"carried"`
}

// Config is what a Log is made of.
type Config struct {
	// To is a file, which is appended to, or Stdout.
	To     string
	Node   string
	Logger hclog.Logger
}

// Stats count lines since the start. Lost ones found the queue full, or could not be written.
type Stats struct{ Written, Lost uint64 }

// Log is an audit log. Its methods are safe for concurrent use; those of a nil Log do nothing.
type Log struct {
	cfg           Config
	log           hclog.Logger
	events        chan Event
	reopen        chan struct{}
	file          *os.File
	written, lost atomic.Uint64
	told          uint64 // of lost
	waiting       []byte // lines to be written at once
	lines         uint64 // of them
	torn          bool   // the file ends within a line
	failing       bool   // the last write failed, and the gateway's log says so
}

// Open opens the file, so that one that can't be written ends the start. It starts nothing;
// lines wait until Run.
func Open(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg, log: cfg.Logger.Named("audit"), events: make(chan Event, queue), reopen: make(chan struct{}, 1)}
	return l, l.open()
}

func (l *Log) open() error {
	if l.cfg.To == Stdout {
		l.file = os.Stdout
		return nil
	}
	f, err := os.OpenFile(l.cfg.To, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the audit log (local.audit): %w; make its directory, or name another file", err)
	}
	if st, err := f.Stat(); err == nil && st.Size() == 0 {
		l.torn = false
	}
	l.Close()
	l.file = f
	return nil
}

// Close closes the file, when Run has ended or was never called.
func (l *Log) Close() error {
	if l == nil || l.file == nil || l.file == os.Stdout {
		return nil
	}
	return l.file.Close()
}

// Reopen has the file opened anew, after it was moved away. It returns at once; lines added after
// that go to the new file.
func (l *Log) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.reopen <- struct{}{}:
	default: // it is about to be
	}
}

// Add takes a line. It never blocks.
func (l *Log) Add(kind string, f *Flow, attrs map[string]string) {
	if l == nil {
		return
	}
	select {
	case l.events <- Event{Time: time.Now().UTC(), Kind: kind, Node: l.cfg.Node, Flow: f, Attrs: attrs}:
	default:
		l.lost.Add(1)
	}
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	return Stats{l.written.Load(), l.lost.Load()}
}

// Run writes until ctx ends, and then what still waits.
func (l *Log) Run(ctx context.Context) error {
	for {
		select {
		case e := <-l.events:
			l.put(e)
		case <-l.reopen:
			l.openAnew()
		case <-ctx.Done():
			for len(l.events) > 0 {
				l.put(<-l.events)
			}
			l.flush()
			return nil
		}
		if len(l.events) == 0 {
			l.flush()
		}
	}
}

func (l *Log) openAnew() {
	l.flush()
	if err := l.open(); err != nil {
		l.log.Error("audit log not reopened, the old file is written to", "error", err)
	}
}

// put takes a line, and before it writes how many are missing there.
func (l *Log) put(e Event) {
	select {
	case <-l.reopen: // it may have come before this line
		l.openAnew()
	default:
	}
	if lost := l.lost.Load(); lost > l.told {
		l.flush()
		l.line(Event{Time: e.Time, Kind: "lost", Node: e.Node, Lines: lost - l.told})
		if l.flush() {
			l.told = lost
		}
	}
	l.line(e)
	l.lines++
	if len(l.waiting) >= batch {
		l.flush()
	}
}

func (l *Log) line(e Event) {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an Event holds nothing that JSON has not
	}
	l.waiting = append(append(l.waiting, b...), '\n')
}

// flush writes what waits, or counts it as lost, and tells the gateway's log when that begins and
// ends. Of a full disk's last line there is a part in the file, which gets a line of its own.
func (l *Log) flush() bool {
	if len(l.waiting) == 0 {
		return true
	}
	if l.torn {
		l.waiting = append([]byte{'\n'}, l.waiting...)
	}
	n, err := l.file.Write(l.waiting)
	if n > 0 {
		if l.torn {
			l.waiting, n = l.waiting[1:], n-1
		}
		l.torn = n > 0 && l.waiting[n-1] != '\n'
	}
	done := min(l.lines, uint64(bytes.Count(l.waiting[:n], []byte{'\n'})))
	l.written.Add(done)
	l.lost.Add(l.lines - done)
	l.waiting, l.lines = l.waiting[:0], 0
	switch {
	case err != nil && !l.failing:
		l.log.Error("audit log can't be written, lines are lost", "file", l.cfg.To, "error", err)
	case err == nil && l.failing:
		l.log.Info("audit log is written again", "file", l.cfg.To, "lost", l.lost.Load())
	}
	l.failing = err != nil
	return err == nil
}
