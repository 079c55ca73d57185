package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// notifier tells systemd how this process does, by the protocol of sd_notify(3).
// The zero value notifies no one: that of a process which systemd did not start, or
// whose unit does not want to know. What can't be told is no error of the
// gateway's; it is logged, and the unit's time-outs see to the rest.
type notifier struct {
	socket   string        // NOTIFY_SOCKET; "@" stands for the zero byte of an abstract one
	watchdog time.Duration // silence after which systemd kills this process; 0 for never
	log      hclog.Logger
}

// newNotifier takes what systemd has put into the environment of process pid.
func newNotifier(getenv func(string) string, pid int, log hclog.Logger) notifier {
	n := notifier{socket: getenv("NOTIFY_SOCKET"), log: log}
	// A watchdog of the parent's may be inherited, sd_watchdog_enabled(3).
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		if p := getenv("WATCHDOG_PID"); p == "" || p == strconv.Itoa(pid) {
			n.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return n
}

// Ready says that the start, or a reload, is over.
func (n notifier) Ready() { n.tell("READY=1") }

// Reloading says that a reload has begun; Ready has to follow, whatever comes
// of it. A unit of Type=notify-reload wants the time, to tell this reload from one before.
func (n notifier) Reloading() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		n.log.Warn("can't read the clock for systemd", "error", err)
		return
	}
	n.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
}

// Stopping says that the process is about to end.
func (n notifier) Stopping() { n.tell("STOPPING=1") }

func (n notifier) tell(lines ...string) {
	if n.socket == "" {
		return
	}
	if err := n.send(strings.Join(lines, "\n")); err != nil {
		n.log.Warn("can't tell systemd", "what", lines[0], "error", err)
	}
}

func (n notifier) send(text string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}

// run says when the process is ready, that it still is, and when it stops, until
// ctx ends. alive returns nil when the gateway answers for itself; the first
// call may wait until it does. A gateway that does not answer is left to the
// watchdog, which ends it with the state of all goroutines in the journal.
func (n notifier) run(ctx context.Context, alive func(context.Context) error) error {
	if n.socket == "" {
		return nil
	}
	defer n.Stopping()
	if err := alive(ctx); err != nil {
		if ctx.Err() == nil {
			n.log.Warn("the gateway doesn't answer for itself: systemd is not told that it is ready", "error", err)
		}
		<-ctx.Done()
		return nil
	}
	n.Ready()
	if n.watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	// Four times in its period: one answer may be late.
	ticker := time.NewTicker(n.watchdog / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		asking, cancel := context.WithTimeout(ctx, n.watchdog/2)
		err := alive(asking)
		cancel()
		switch {
		case err == nil:
			n.tell("WATCHDOG=1")
		case ctx.Err() == nil:
			n.log.Warn("the gateway doesn't answer for itself: the watchdog is not told that it lives", "error", err)
		}
	}
}
