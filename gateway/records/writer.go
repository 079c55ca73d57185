package records

import (
	"context"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"time"
)

const (
	// Below this many bytes garbage isn't worth a rewrite.
	rewriteAbove = 1 << 20

	retryFirst = time.Second
	retryMax   = time.Minute
)

// writer is the state of Run alone.
type writer struct {
	file     *os.File
	size     int64
	interval time.Duration
	spare    []byte // the queue's buffer of the time before

	// live has the entry size of every record in the file under the hash of its
	// key, to know how much of the file is garbage. A collision makes the
	// estimate a little wrong, and no more than that.
	live      map[uint64]uint16
	liveBytes int64
	seed      maphash.Seed

	full  bool          // records are refused, and the log has it
	retry time.Duration // the next pause after a failure; 0 when all is well
}

// Run rewrites the file from the snapshot and then, until ctx ends, appends what is
// queued, including what is queued at the end. A failing disk is logged once, and Run
// tries again: the gateway works without records, too.
func (s *Store) Run(ctx context.Context) error {
	s.mu.Lock()
	s.pending, s.dirty = s.pending[:0], true
	s.mu.Unlock()
	s.signal()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			s.step()
			return nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			s.step()
			return nil
		}
		pause.Reset(s.step())
	}
}

// step writes the queue and returns the pause before the next step.
func (s *Store) step() time.Duration {
	start := time.Now()
	if s.beforeTake != nil {
		s.beforeTake()
	}
	s.mu.Lock()
	batch, dirty := s.pending, s.dirty
	s.pending, s.dirty = s.w.spare[:0], false
	s.mu.Unlock()

	pause := s.w.interval
	var err error
	if dirty || s.needsRewrite(len(batch)) {
		err = s.rewrite()
		// A rewrite for each moment's overflow would do nothing else.
		pause = max(pause, time.Since(start))
	} else {
		err = s.append(batch)
	}

	s.mu.Lock()
	s.stats.Records, s.stats.Bytes = len(s.w.live), s.w.size
	if err != nil {
		s.stats.WriteErrors++
		s.pending, s.dirty = s.pending[:0], true
		s.signal()
	}
	s.mu.Unlock()
	if s.w.spare = batch; cap(batch) > keepPending {
		s.w.spare = nil
	}

	if err != nil {
		if s.w.retry == 0 {
			s.w.retry = retryFirst
			s.log.Error("can't write flow records, a restart would not remember new flows; trying again", "error", err)
		}
		pause, s.w.retry = s.w.retry, min(2*s.w.retry, retryMax)
		return pause
	}
	if s.w.retry > 0 {
		s.w.retry = 0
		s.log.Info("flow records are written again", "file", s.path, "records", len(s.w.live))
	}
	if s.afterWrite != nil {
		s.afterWrite()
	}
	return pause
}

// needsRewrite reports whether a rewrite is better than appending more bytes: half of the
// file is garbage, or it is full and a quarter is.
func (s *Store) needsRewrite(more int) bool {
	garbage := s.w.size - s.w.liveBytes
	return garbage > rewriteAbove && garbage*2 > s.w.size ||
		s.w.size+int64(more) > s.cfg.MaxBytes && garbage*4 >= s.w.size
}

// append adds a batch to the file. When the file is full, only its deletions.
func (s *Store) append(batch []byte) error {
	if s.w.size+int64(len(batch)) > s.cfg.MaxBytes {
		batch = s.onlyDeletions(batch)
	}
	n, err := s.w.file.Write(batch)
	s.w.size += int64(n)
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	scan(batch, s.w.count)
	return nil
}

func (s *Store) onlyDeletions(batch []byte) []byte {
	kept, refused := batch[:0], 0
	scan(batch, func(e entry) {
		if e.op == opPut {
			refused++
			return
		}
		kept = appendEntry(kept, opDelete, e.key, nil) // never overtakes what is being read
	})
	s.refuse(refused)
	return kept
}

func (s *Store) refuse(n int) {
	if n == 0 {
		return
	}
	if !s.w.full {
		s.w.full = true
		s.log.Warn("file of flow records is full, a restart would not remember further flows", "file", s.path, "max_bytes", s.cfg.MaxBytes)
	}
	s.mu.Lock()
	s.stats.Refused += uint64(n)
	s.mu.Unlock()
}

// count keeps the account of garbage.
func (w *writer) count(e entry) {
	h := maphash.Bytes(w.seed, e.key)
	w.liveBytes -= int64(w.live[h])
	if e.op == opDelete {
		delete(w.live, h)
		return
	}
	w.live[h] = uint16(e.size)
	w.liveBytes += int64(e.size)
}

// rewrite replaces the file by what the snapshot yields. The old file stays
// until the new one is on the disk.
func (s *Store) rewrite() error {
	w := &s.w
	live, refused := make(map[uint64]uint16, len(w.live)), 0
	next := writer{seed: w.seed, live: live}
	b := appendFileHeader(make([]byte, 0, fileHeader+w.liveBytes+w.liveBytes/8))
	for key, value := range s.snapshot {
		size := entryHeader + len(key) + len(value)
		if !fits(key, value) || int64(len(b)+size) > s.cfg.MaxBytes {
			refused++
			continue
		}
		b = appendEntry(b, opPut, key, value)
		next.count(entry{op: opPut, key: key, size: size})
	}

	f, err := replaceFile(s.path, b)
	if err != nil {
		return err
	}
	if w.file != nil {
		w.file.Close() // its name is gone already, and so is what it could complain about
	}
	w.file, w.size, w.live, w.liveBytes = f, int64(len(b)), next.live, next.liveBytes
	w.full = w.full && refused > 0
	s.refuse(refused)
	s.mu.Lock()
	s.stats.Rewrites++
	s.mu.Unlock()
	return nil
}

// replaceFile writes b to the disk under another name and then renames the file to path.
// It returns the file, open for appending.
func replaceFile(path string, b []byte) (*os.File, error) {
	temp := path + ".new"
	// An old one may have been left by a kill, with any mode.
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove what a rewrite left behind: %w", err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		f.Close()
		os.Remove(temp)
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	// If the rename does not reach the disk, the old file is there after a crash of the
	// machine, so a failure here is harmless.
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		d.Sync()
		d.Close()
	}
	return f, nil
}
