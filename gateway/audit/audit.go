// Package audit writes who was connected to whom: one line of JSON when a flow opens, one when it
// ends, one a minute for each destination to which packets were denied, and one for each change of
// roles, claim and reload. A [Log] never makes its callers wait, and its file has a limit. Lines
// that find the queue or the file full are lost and counted, and the log itself says how many: what
// has been written stays, since a peer that could push lines out would cover its tracks.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
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

// Config is what a Log is made of.
type Config struct {
	// To is a file, which is appended to, or Stdout.
	To string
	// Limit is the largest size of the file in bytes; 0 is none.
	Limit  int64
	Node   string
	Logger hclog.Logger
}

// Stats describe a Log. Written and Lost count lines since the start; lost ones found the queue or
// the file full, or could not be written.
type Stats struct {
	Written, Lost uint64
	// Size is that of the file in bytes, as far as it is known, and Limit what it may be; both are
	// 0 for Stdout.
	Size, Limit int64
	// Full says that lines of flows are being lost because the file is as large as it may be.
	Full bool
}

// Log is an audit log. Its methods are safe for concurrent use; those of a nil Log do nothing.
type Log struct {
	cfg    Config
	log    hclog.Logger
	events chan Event
	reopen chan struct{}

	written, lost atomic.Uint64
	size          atomic.Int64
	full          atomic.Bool // lines are lost because the file is as large as it may be

	// Only the goroutine of Run touches these, and Close after it.
	file    *file
	told    uint64 // of lost
	waiting []byte // lines to be written at once
	lines   uint64 // of them
	failing bool   // the last write failed, and the gateway's log says so
}

// Open opens the file, so that one that can't be written ends the start. It starts nothing;
// lines wait until Run.
func Open(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg, log: cfg.Logger.Named("audit"), events: make(chan Event, queue), reopen: make(chan struct{}, 1)}
	f, err := openFile(cfg.To, cfg.Limit)
	if err != nil {
		return nil, err
	}
	l.use(f)
	return l, nil
}

// use makes f the file that is written to.
func (l *Log) use(f *file) {
	l.file = f
	l.size.Store(f.size)
	l.full.Store(false)
}

// Close writes what was added since Run has ended, or before it was ever called, and closes the
// file.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.drain()
	return l.file.close()
}

// Reopen has the file opened again, after it was moved away. It returns at once; lines added after
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
	l.add(Event{Kind: kind, Flow: f, Attrs: attrs})
}

// AddDenial takes a line about denied packets. It never blocks.
func (l *Log) AddDenial(d *Denial) { l.add(Event{Kind: "denied", Denied: d}) }

func (l *Log) add(e Event) {
	if l == nil {
		return
	}
	e.Time, e.Node = time.Now().UTC(), l.cfg.Node
	select {
	case l.events <- e:
	default:
		l.lost.Add(1)
	}
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	s := Stats{Written: l.written.Load(), Lost: l.lost.Load(), Full: l.full.Load()}
	if l.cfg.To != Stdout {
		s.Size, s.Limit = l.size.Load(), l.cfg.Limit
	}
	return s
}

// Run writes until ctx ends, and then what still waits.
func (l *Log) Run(ctx context.Context) error {
	for {
		select {
		case e := <-l.events:
			l.put(e)
		case <-l.reopen:
			l.openAgain()
		case <-ctx.Done():
			l.drain()
			return nil
		}
		if len(l.events) == 0 {
			l.flush()
		}
	}
}

// drain writes what waits.
func (l *Log) drain() {
	for len(l.events) > 0 {
		l.put(<-l.events)
	}
	l.flush()
}

func (l *Log) openAgain() {
	l.flush()
	f, err := openFile(l.cfg.To, l.cfg.Limit)
	if err != nil {
		l.log.Error("audit log not reopened, the old file is written to", "error", err)
		return
	}
	// A torn line may be the last one of the same file.
	f.torn = l.file.torn && f.size > 0
	if err := l.file.close(); err != nil {
		l.log.Error("audit log's old file not closed", "error", err)
	}
	if l.full.Load() {
		l.log.Info("audit log is written again", "file", l.cfg.To, "lost", l.lost.Load())
	}
	l.use(f)
}

// put takes a line, and before it writes how many are missing there.
func (l *Log) put(e Event) {
	select {
	case <-l.reopen: // it may have come before this line
		l.openAgain()
	default:
	}
	line := encode(e)
	flow := e.Flow != nil
	if !l.room(len(line), flow, e) {
		l.lost.Add(1)
		return
	}
	if lost := l.lost.Load(); lost > l.told {
		l.flush()
		l.append(encode(Event{Time: e.Time, Kind: "lost", Node: e.Node, Lines: lost - l.told}))
		if l.flush() {
			l.told = lost
		}
	}
	l.append(line)
	l.lines++
	if len(l.waiting) >= batch {
		l.flush()
	}
}

// room reports whether the file has room for a line of so many bytes, and notes in the file and in
// the gateway's log when lines of flows begin to be lost, and in the latter when that ends.
func (l *Log) room(bytes int, flow bool, e Event) bool {
	// A line about the losses may come before each.
	const loss = 256
	room := l.file.room(len(l.waiting)+bytes+loss, flow, e.Time)
	switch full := l.full.Load(); {
	case !room && !full:
		l.full.Store(true)
		l.log.Error("audit log is full, lines are lost: move the file away and send SIGUSR1 to gw",
			"file", l.cfg.To, "bytes", l.file.size, "limit", l.cfg.Limit, "reopen", "systemctl kill --kill-who=main --signal=USR1 gw")
		l.append(encode(Event{Time: e.Time, Kind: "full", Node: e.Node, Attrs: map[string]string{"limit_bytes": strconv.FormatInt(l.cfg.Limit, 10)}}))
	case room && full && flow:
		l.full.Store(false)
		l.log.Info("audit log is written again", "file", l.cfg.To, "lost", l.lost.Load())
	}
	return room
}

func encode(e Event) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an Event holds nothing that JSON has not
	}
	return append(b, '\n')
}

func (l *Log) append(line []byte) { l.waiting = append(l.waiting, line...) }

// flush writes what waits, or counts it as lost, and tells the gateway's log when that begins and
// ends.
func (l *Log) flush() bool {
	if len(l.waiting) == 0 {
		return true
	}
	n, err := l.file.write(l.waiting)
	l.size.Store(l.file.size)
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
