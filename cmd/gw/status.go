package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/onewaylink/gw/gateway/control"
)

const (
	// askTimeout is how long a running gateway may take to answer; it answers from memory.
	askTimeout = 5 * time.Second
	// watchInterval is the time between two looks of --watch.
	watchInterval = time.Second
)

type statusCmd struct {
	socketFlags
	JSON  bool `name:"json" help:"Print JSON; its names are stable. With --watch one line a second."`
	Watch bool `help:"Refresh each second, until interrupted."`
}

// Run shows the running gateway's state.
func (c *statusCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	client := control.NewClient(path)
	if !c.Watch {
		text, err := c.look(env.ctx, client, env.stdout)
		if err != nil {
			return err
		}
		return write(env.stdout, text)
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	return c.watch(env.ctx, client, env.stdout, ticker.C)
}

// look asks once and lays the answer out for the writer.
func (c *statusCmd) look(ctx context.Context, client *control.Client, w io.Writer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	if err != nil {
		return "", askError(err)
	}
	if !c.JSON {
		return statusText(s, wantsColour(w)), nil
	}
	b, err := json.Marshal(s)
	if !c.Watch {
		b, err = json.MarshalIndent(s, "", "  ")
	}
	return string(b) + "\n", err
}

// watch repaints at each tick until ctx ends. A gateway that isn't there at the start is an error;
// one that goes away later is waited for, since that is what a restart looks like.
func (c *statusCmd) watch(ctx context.Context, client *control.Client, w io.Writer, tick <-chan time.Time) error {
	terminal := isTerminal(w)
	for first := true; ; first = false {
		text, err := c.look(ctx, client, w)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil && c.JSON:
			text = ""
		case err != nil:
			text = err.Error() + "\n"
		}
		switch {
		case terminal && !c.JSON:
			text = repaint(text)
		case !first && !c.JSON:
			text = "\n" + text
		}
		if err := write(w, text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}

// repaint puts the text over the last one without a blank screen between them, which would flicker:
// home, clear to the end of each line, then to the end of the screen (ECMA-48, sections 8.3.21,
// 8.3.41 and 8.3.39).
func repaint(text string) string {
	return "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
}

func write(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write the answer: %w; check where standard output goes", err)
	}
	return nil
}

// askError says what to do where the gateway couldn't be asked.
func askError(err error) error {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return fmt.Errorf("%w; start it with systemctl start gw, or gw up -c /etc/gw", err)
	case errors.Is(err, control.ErrPermission):
		return fmt.Errorf("%w; ask as root", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: it did not answer within %v; see whether the process is stopped, and its log", err, askTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%w: the gateway has ended; see its log", err)
	case errors.As(err, new(*json.SyntaxError)), errors.As(err, new(*json.UnmarshalTypeError)):
		return fmt.Errorf("%w: the running gateway has another version; restart it with this program", err)
	default:
		return err
	}
}
