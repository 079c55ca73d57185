package status

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// snapshotAge is how old a snapshot may be that a request gets: any number of requests cost one
	// snapshot in that time, which takes locks of the data path.
	snapshotAge = time.Second
	// snapshotWait is how long a request waits for a snapshot.
	snapshotWait = 10 * time.Second
)

var errNoSnapshot = errors.New("the gateway takes no snapshot of itself; see its log, and restart it if that says nothing")

// snapshots gives requests snapshots of a source, which is asked by one goroutine at a time.
type snapshots struct {
	source StatusSource
	now    func() time.Time

	mu   sync.Mutex
	last Status
	at   time.Time     // when last was taken; zero before the first
	busy chan struct{} // closed when the snapshot that is being taken is there; nil when none is
}

var _ StatusSource = (*snapshots)(nil)

func newSnapshots(source StatusSource) *snapshots { return &snapshots{source: source, now: time.Now} }

// Status returns a snapshot for a caller that has had one from get a moment ago.
func (s *snapshots) Status() Status {
	st, _ := s.get(context.Background()) // without an end of ctx there is no error
	return st
}

// get returns a snapshot that is younger than snapshotAge. It fails when ctx ends first.
func (s *snapshots) get(ctx context.Context) (Status, error) {
	s.mu.Lock()
	for {
		if age := s.now().Sub(s.at); !s.at.IsZero() && age >= 0 && age < snapshotAge {
			defer s.mu.Unlock()
			return s.last, nil
		}
		if s.busy == nil {
			return s.take(), nil
		}
		busy := s.busy
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return Status{}, errNoSnapshot
		}
		s.mu.Lock()
	}
}

// take takes a snapshot. It is called with the lock held, which it gives back.
func (s *snapshots) take() Status {
	done := make(chan struct{})
	s.busy = done
	s.mu.Unlock()
	st := s.source.Status()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.at, s.busy = st, s.now(), nil
	close(done)
	return st
}
