package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

type topCmd struct {
	socketFlags
	Sort string `enum:"bytes,age" default:"bytes" help:"Order: the most bytes first (bytes), or the oldest first (age)."`
	Once bool   `help:"Print one screen of 80 by 24 and end."`
}

// Run shows the running gateway on the whole terminal until q is pressed.
func (c *topCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	client := control.NewClient(path)
	v := topView{width: columns, height: 24, order: status.Order(c.Sort), colour: wantsColour(env.stdout)}
	s, list, err := topLook(env.ctx, client, v)
	if err != nil {
		return err
	}
	if c.Once {
		return write(env.stdout, topFrame(s, list, v)+"\n")
	}
	in, ok := env.stdin.(*os.File)
	if !ok || !isTerminal(in) || !isTerminal(env.stdout) {
		return usagef("gw top needs a terminal; for a script use: gw top --once, or gw status --json")
	}
	return c.live(env, client, in, v)
}

// topLook asks for what one screen shows.
func topLook(ctx context.Context, client *control.Client, v topView) (status.Status, status.ConnList, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	if err != nil {
		return s, status.ConnList{}, askError(err)
	}
	list, err := client.Conns(ctx, status.Query{Order: v.order, Limit: max(1, v.height)})
	if err != nil {
		return s, list, askError(err)
	}
	return s, list, nil
}

// The alternate screen without a cursor, and back (xterm's private modes 1049 and 25).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// live repaints each second, at each key and when the terminal changes its size. It gives the
// terminal back as it was.
func (c *topCmd) live(env *env, client *control.Client, in *os.File, v topView) (err error) {
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the terminal's settings: %w", err)
	}
	keys := *before
	keys.Lflag &^= unix.ICANON | unix.ECHO
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 0, 2 // a read returns after 0.2 s, so that its goroutine can end
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &keys); err != nil {
		return fmt.Errorf("set the terminal up for keys: %w", err)
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, before)
		_ = write(env.stdout, leaveScreen)
	}()
	if err := write(env.stdout, enterScreen); err != nil {
		return err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(env.ctx)
	pressed := make(chan byte)
	var group errgroup.Group
	group.Go(func() error { return readKeys(ctx, fd, pressed) })
	group.Go(func() error {
		defer cancel()
		return topLoop(ctx, client, env, v, pressed, resized, ticker.C)
	})
	return group.Wait()
}

// readKeys passes on what is typed until ctx ends.
func readKeys(ctx context.Context, fd int, pressed chan<- byte) error {
	var b [1]byte
	for ctx.Err() == nil {
		n, err := unix.Read(fd, b[:])
		switch {
		case err == unix.EINTR || err == nil && n == 0:
			continue
		case err != nil:
			return fmt.Errorf("read a key: %w", err)
		}
		select {
		case pressed <- b[0]:
		case <-ctx.Done():
		}
	}
	return nil
}

// topLoop paints until q is pressed or ctx ends. A gateway that goes away is waited for, as status
// --watch does.
func topLoop(ctx context.Context, client *control.Client, env *env, v topView, pressed <-chan byte, resized <-chan os.Signal, tick <-chan time.Time) error {
	var s status.Status
	var list status.ConnList
	for {
		if f, ok := env.stdout.(*os.File); ok {
			if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
				v.width, v.height = int(size.Col), int(size.Row)
			}
		}
		newer, conns, err := topLook(ctx, client, v)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			v.trouble = err.Error()
		default:
			s, list, v.trouble = newer, conns, ""
		}
		if err := write(env.stdout, repaint(topFrame(s, list, v))); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		case <-resized:
		case key := <-pressed:
			switch key {
			case 'q', 'Q':
				return nil
			case 'b':
				v.order = status.ByBytes
			case 'a':
				v.order = status.ByAge
			}
		}
	}
}
