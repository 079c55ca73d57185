package trunk

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// lines is a log that a test waits for.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *lines) logger() hclog.Logger {
	l.more = make(chan struct{}, 1)
	return hclog.New(&hclog.LoggerOptions{Output: l})
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count() int { return strings.Count(l.all(), "\n") }

func (l *lines) await(t *testing.T, what string) {
	t.Helper()
	timeout := time.After(deadline)
	for !strings.Contains(l.all(), what) {
		select {
		case <-l.more:
		case <-timeout:
			t.Fatalf("the log never says %q: %s", what, l.all())
		}
	}
}
