package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// systemd listens as the manager does, and returns what a process tells.
func systemd(t *testing.T, name string) (told func() string) {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1024)
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("nothing is told: %v", err)
		}
		return string(b[:n])
	}
}

func TestNotifier(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@gw-test-" + filepath.Base(t.TempDir())} {
		told := systemd(t, name)
		n := newNotifier(func(k string) string {
			return map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "80000", "WATCHDOG_PID": "7"}[k]
		}, 7, hclog.NewNullLogger())
		n.Reloading()
		if got := told(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("a reload is told by %q", got)
		}
		ctx, cancel := context.WithCancel(context.Background())
		calls, done := 0, make(chan error)
		go func() {
			done <- n.run(ctx, func(context.Context) error {
				if calls++; calls == 2 {
					return errors.New("not this time")
				}
				return nil
			})
		}()
		for _, want := range []string{"READY=1", "WATCHDOG=1"} {
			if got := told(); got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if calls < 3 {
			t.Errorf("the watchdog was fed after %d questions, the second of which was not answered", calls)
		}
		got := told()
		for got == "WATCHDOG=1" {
			got = told()
		}
		if got != "STOPPING=1" {
			t.Errorf("told %q at the end", got)
		}
	}
}

// TestNotifierSilent: what can't be answered for is never said to be ready.
func TestNotifierSilent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	told := systemd(t, name)
	n := notifier{socket: name, log: hclog.NewNullLogger()}
	ctx, cancel := context.WithCancel(context.Background())
	err := n.run(ctx, func(context.Context) error { cancel(); return errors.New("no answer") })
	if got := told(); err != nil || got != "STOPPING=1" {
		t.Errorf("%v; told %q", err, got)
	}
}

func TestNotifierWithoutSystemd(t *testing.T) {
	n := newNotifier(func(string) string { return "" }, 7, hclog.NewNullLogger())
	n.Ready()
	n.Stopping()
	if err := n.run(t.Context(), nil); err != nil {
		t.Error(err)
	}
	n = newNotifier(func(k string) string {
		return map[string]string{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"}[k]
	}, 7, hclog.NewNullLogger())
	if n.watchdog != 0 {
		t.Error("the watchdog of another process is fed")
	}
}
