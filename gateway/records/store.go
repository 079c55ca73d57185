package records

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	fileName = "flows.log"

	defaultMaxBytes = 32 << 20
	// maxPending bounds the queue, in bytes: some 30,000 records.
	maxPending = 4 << 20
	// keepPending is how large an empty queue's buffer may stay.
	keepPending = 256 << 10
	// batchEvery spaces the writes out. What was queued since the last one dies
	// with the process.
	batchEvery = 20 * time.Millisecond
)

// Config is what a Store needs.
type Config struct {
	// Dir is the directory for the file and the lock; it is made when missing.
	Dir string
	// MaxBytes bounds the file; default 32 MiB, some 250,000 records. Records
	// that don't fit are not kept and are counted. Deletions may let the file exceed it
	// by a third before it is rewritten.
	MaxBytes int64
	Logger   hclog.Logger
}

// Stats is a snapshot of a Store.
type Stats struct {
	Records     int    // in the file
	Bytes       int64  // of the file
	Rewrites    uint64 // of the file
	Overflows   uint64 // of the queue, each mended by a rewrite
	Refused     uint64 // records not kept: over the limits, or the file is full
	WriteErrors uint64
}

// Store keeps records in a file. Put and Delete may be called by any goroutine
// and never wait for the disk. The owner calls Open, SetSnapshot, Load, Run, and
// when Run has returned Close.
type Store struct {
	cfg      Config
	snapshot Snapshot // registered before Run

	log  hclog.Logger
	path string
	lock *os.File
	wake chan struct{} // holds a token when there is something to write

	mu      sync.Mutex
	pending []byte // encoded entries
	dirty   bool   // queued entries were discarded: only a rewrite makes the file complete
	stats   Stats

	w writer

	// Hooks of tests, called by Run before it removes the queue and after it has written it.
	beforeTake, afterWrite func()
}

// Open locks cfg.Dir for this process. The error is ErrInUse when another process uses
// it.
func Open(cfg Config) (*Store, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w; choose another one with local { state_dir = … }", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	return &Store{
		cfg:  cfg,
		log:  cfg.Logger.Named("records"),
		path: filepath.Join(cfg.Dir, fileName),
		lock: lock,
		wake: make(chan struct{}, 1),
		w:    writer{seed: maphash.MakeSeed(), interval: batchEvery},
	}, nil
}

// SetSnapshot registers what yields all records, from which Run rewrites the file. It is called
// once, before Run.
func (s *Store) SetSnapshot(snapshot Snapshot) { s.snapshot = snapshot }

// Put queues a record, replacing any with the same key. The caller's own table
// must have it already, so that a snapshot that is taken in between does too.
func (s *Store) Put(key, value []byte) { s.queue(opPut, key, value) }

// Delete queues the removal of a record. The caller's table must have lost it
// already.
func (s *Store) Delete(key []byte) { s.queue(opDelete, key, nil) }

func (s *Store) queue(op byte, key, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !fits(key, value):
		s.stats.Refused++
		return
	case s.dirty:
		return // the next rewrite has it from the snapshot
	case len(s.pending)+entryHeader+len(key)+len(value) > maxPending:
		s.pending, s.dirty = s.pending[:0], true
		s.stats.Overflows++
	default:
		s.pending = appendEntry(s.pending, op, key, value)
	}
	s.signal()
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close releases the directory. Run must have returned.
func (s *Store) Close() error {
	var err error
	if s.w.file != nil {
		err = s.w.file.Close()
	}
	if err := errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("close flow records: %w", err)
	}
	return nil
}
