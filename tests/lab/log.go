package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Log is what a process has written, kept in memory and in a file.
type Log struct {
	// Path is the file.
	Path string

	mu      sync.Mutex
	file    *os.File
	text    strings.Builder
	changed chan struct{}
}

func newLog(path string) (*Log, error) {
	// A restarted process appends to the same file.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a process's log: %w", err)
	}
	return &Log{Path: path, file: f, changed: make(chan struct{})}, nil
}

// Write appends output of the process.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	close(l.changed)
	l.changed = make(chan struct{})
	return l.file.Write(b)
}

func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// String is all that the process has written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail is the last n lines.
func (l *Log) Tail(n int) string { return tail(l.String(), n) }

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// has reports whether text was written; the channel is closed at the next write.
func (l *Log) has(text string) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text), l.changed
}

// logTails writes the end of each process's log to the lab's own log.
func (l *Lab) logTails() {
	paths, err := filepath.Glob(filepath.Join(l.Dir, "logs", "*.log"))
	if err != nil {
		l.logf("find logs: %v", err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			l.logf("read log: %v", err)
			continue
		}
		l.logf("%s ends:\n%s", filepath.Base(p), tail(string(b), 60))
	}
}
