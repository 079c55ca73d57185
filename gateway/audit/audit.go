// Package audit writes who was connected to whom: one line of JSON when a flow
// opens, one when it ends, and one for each change of roles, claim and reload. A
// [Log] never makes its callers wait: lines that find its queue full are lost,
// counted, and the log itself says how many.
package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// Reopen has the file opened anew, after it was moved away. It returns at once.
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
	out := bufio.NewWriter(l.file)
	for {
		select {
		case e := <-l.events:
			l.write(out, e)
		case <-l.reopen:
			l.flush(out)
			if err := l.open(); err != nil {
				l.log.Error("audit log not reopened, the old file is written to", "error", err)
			}
			out.Reset(l.file)
		case <-ctx.Done():
			for len(l.events) > 0 {
				l.write(out, <-l.events)
			}
			l.flush(out)
			return nil
		}
		if len(l.events) == 0 {
			l.flush(out)
		}
	}
}

// write writes a line, and before it how many are missing there.
func (l *Log) write(out *bufio.Writer, e Event) {
	if lost := l.lost.Load(); lost > l.told {
		l.line(out, Event{Time: e.Time, Kind: "lost", Node: e.Node, Lines: lost - l.told})
		l.told = lost
	}
	l.line(out, e)
}

func (l *Log) line(out io.Writer, e Event) {
	b, err := json.Marshal(e)
	if err == nil {
		_, err = out.Write(append(b, '\n'))
	}
	if err != nil {
		l.lost.Add(1)
		return
	}
	l.written.Add(1)
}

// flush tells the gateway's log when writing begins to fail. A bufio.Writer keeps its first
// error, so it begins anew: what it holds is lost.
func (l *Log) flush(out *bufio.Writer) {
	err := out.Flush()
	if err != nil {
		l.lost.Add(1)
		out.Reset(l.file)
		if !l.failing {
			l.log.Error("audit log can't be written, lines are lost", "file", l.cfg.To, "error", err)
		}
	}
	l.failing = err != nil
}
