// Package quiet limits the rate of log lines that another party can cause: a peer, a host, a local
// user. Each kind of line has a key. A [Logger] writes a few lines of a key at once, and then one a
// minute with the number of suppressed lines. It never suppresses the last line of a burst:
// [Logger.Flush] writes that line when the rate permits, so the log ends with the present state.
package quiet

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The limits where Config has none.
const (
	DefaultBurst = 6
	DefaultEvery = time.Minute
	DefaultKeys  = 256
)

// Suppressed names the attribute that counts the lines left out since the previous line of the key.
const Suppressed = "suppressed"

// Config is what a Logger needs.
type Config struct {
	Logger hclog.Logger
	// Burst is how many lines with one key are written at once; 0 is DefaultBurst.
	Burst int
	// Every is the time after which a key may have one more line; 0 is DefaultEvery.
	Every time.Duration
	// Keys bounds how many keys have a limit of their own. Further ones share a single limit,
	// until an idle key is forgotten. 0 is DefaultKeys.
	Keys int
	// Now reads the clock; nil is time.Now.
	Now func() time.Time
}

// A Logger writes log lines and limits their rate per key. Its methods are safe for concurrent use.
type Logger struct {
	cfg Config

	mu      sync.Mutex
	keys    map[string]*bucket
	rest    bucket    // shared by the keys that found no room
	sweptAt time.Time // when idle keys were last looked for
}

// line holds the arguments of a call of Log.
type line struct {
	level hclog.Level
	msg   string
	args  []any
}

// bucket is the token bucket of a key.
type bucket struct {
	spent   int       // tokens in use: cfg.Burst is none left
	since   time.Time // since when the next token is being returned
	waiting line      // the newest line that was not written
	left    uint64    // how many were not written, waiting among them
}

// New returns a Logger.
func New(c Config) *Logger {
	if c.Burst <= 0 {
		c.Burst = DefaultBurst
	}
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	if c.Keys <= 0 {
		c.Keys = DefaultKeys
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Logger{cfg: c, keys: map[string]*bucket{}}
}

// Log writes a line, or keeps it for Flush if the key has exhausted its rate. Lines that report
// changes of one state share a key: then the newest is the one that is written in the end.
func (l *Logger) Log(level hclog.Level, key, msg string, args ...any) {
	if level < l.cfg.Logger.GetLevel() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	b := l.bucket(key, now)
	b.refill(now, l.cfg.Every)
	if b.spent == l.cfg.Burst {
		b.waiting = line{level, msg, args}
		b.left++
		return
	}
	b.spend(now)
	if b.left > 0 {
		args = append(args[:len(args):len(args)], Suppressed, b.left)
	}
	b.waiting, b.left = line{}, 0
	l.cfg.Logger.Log(level, msg, args...)
}

// Debug, Info, Warn and Error write a line at their level, as Log does.
func (l *Logger) Debug(key, msg string, args ...any) { l.Log(hclog.Debug, key, msg, args...) }
func (l *Logger) Info(key, msg string, args ...any)  { l.Log(hclog.Info, key, msg, args...) }
func (l *Logger) Warn(key, msg string, args ...any)  { l.Log(hclog.Warn, key, msg, args...) }
func (l *Logger) Error(key, msg string, args ...any) { l.Log(hclog.Error, key, msg, args...) }

// Flush writes the newest suppressed line of each key whose rate permits it. It returns the time
// at which the next one is due, or the zero time if none waits. The owner of the Logger calls Flush
// then, or at any regular interval.
func (l *Logger) Flush() (next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	l.flush(&l.rest, now, &next)
	for _, b := range l.keys {
		l.flush(b, now, &next)
	}
	return next
}

func (l *Logger) flush(b *bucket, now time.Time, next *time.Time) {
	b.refill(now, l.cfg.Every)
	if b.left == 0 {
		return
	}
	if b.spent == l.cfg.Burst {
		if at := b.since.Add(l.cfg.Every); next.IsZero() || at.Before(*next) {
			*next = at
		}
		return
	}
	b.spend(now)
	w := b.waiting
	if b.left > 1 {
		w.args = append(w.args[:len(w.args):len(w.args)], Suppressed, b.left-1)
	}
	b.waiting, b.left = line{}, 0
	l.cfg.Logger.Log(w.level, w.msg, w.args...)
}

// bucket finds the bucket of a key, or the shared one if there is no room for another.
func (l *Logger) bucket(key string, now time.Time) *bucket {
	if b := l.keys[key]; b != nil {
		return b
	}
	if len(l.keys) >= l.cfg.Keys {
		l.sweep(now)
	}
	if len(l.keys) >= l.cfg.Keys {
		return &l.rest
	}
	b := &bucket{}
	l.keys[key] = b
	return b
}

// sweep forgets keys that have nothing to remember, at most once in the time in which one can
// become so.
func (l *Logger) sweep(now time.Time) {
	if now.Sub(l.sweptAt) < l.cfg.Every/4 {
		return
	}
	l.sweptAt = now
	for key, b := range l.keys {
		if b.refill(now, l.cfg.Every); b.spent == 0 && b.left == 0 {
			delete(l.keys, key)
		}
	}
}

// refill returns the tokens that the time since then has made.
func (b *bucket) refill(now time.Time, every time.Duration) {
	n := int(min(max(now.Sub(b.since)/every, 0), time.Duration(b.spent)))
	b.spent -= n
	b.since = b.since.Add(time.Duration(n) * every)
}

func (b *bucket) spend(now time.Time) {
	if b.spent == 0 {
		b.since = now
	}
	b.spent++
}
