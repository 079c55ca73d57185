// Package quota limits what other sites can make this gateway do: how many requests of one site are
// answered at a time, and how many over time. A site that exceeds its limits takes nothing from the
// others. A leaf.
package quota

import (
	"sync"
	"time"
)

// Config is what a Limiter needs. All fields but Now are required.
type Config struct {
	// AtOnce is how many requests of one site are served at a time.
	AtOnce int
	// Burst is how many requests a site may have answered at once; each becomes available again
	// after Every.
	Burst int
	Every time.Duration
	// Now reads the clock; nil is time.Now.
	Now func() time.Time
}

// Stats counts the requests of one site.
type Stats struct {
	// Answered requests were within the limits. Busy ones came while too many of the site were
	// being served, Frequent ones came too soon after others.
	Answered, Busy, Frequent uint64
}

// A Limiter keeps the limits of every site. Its methods are safe for concurrent use. The caller
// passes only sites of the configuration, so a peer cannot make it grow.
type Limiter struct {
	cfg Config

	mu    sync.Mutex
	sites map[string]*site
}

// site is what the Limiter knows of one site.
type site struct {
	serving int
	spent   int       // tokens in use: cfg.Burst is none left
	since   time.Time // since when the next token is being returned
	stats   Stats
}

// New returns a Limiter.
func New(c Config) *Limiter {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Limiter{cfg: c, sites: map[string]*site{}}
}

func (l *Limiter) site(name string) *site {
	s := l.sites[name]
	if s == nil {
		s = &site{}
		l.sites[name] = s
	}
	return s
}

// Enter reports whether another request of a site may be served now. The caller must call leave,
// once, when a request that was let in has been served.
func (l *Limiter) Enter(name string) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.site(name)
	if s.serving == l.cfg.AtOnce {
		s.stats.Busy++
		return nil, false
	}
	s.serving++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.serving--
	}, true
}

// Spend takes a token of a site for a request that is about to be answered. It reports false if the
// site has asked too often.
func (l *Limiter) Spend(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, now := l.site(name), l.cfg.Now()
	if back := int(now.Sub(s.since) / l.cfg.Every); back > 0 {
		s.spent = max(0, s.spent-back)
		s.since = s.since.Add(time.Duration(back) * l.cfg.Every)
	}
	if s.spent == l.cfg.Burst {
		s.stats.Frequent++
		return false
	}
	if s.spent == 0 {
		s.since = now
	}
	s.spent++
	s.stats.Answered++
	return true
}

// Stats returns a snapshot of a site's counters.
func (l *Limiter) Stats(name string) Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sites[name]; s != nil {
		return s.stats
	}
	return Stats{}
}
