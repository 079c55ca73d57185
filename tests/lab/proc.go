package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// spawner runs functions one after the other on a thread that lives as long as
// the process. Programs are started there because PDEATHSIG fires when the
// thread that forked ends, not when its process does.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for fn := range work {
			fn()
		}
	}()
	return work
})

// Cmd is an [exec.Cmd] that starts in a namespace. Start, Run, Output and
// CombinedOutput are the ways to start it. The process dies with ours.
type Cmd struct {
	*exec.Cmd
	ns *Namespace
}

// Command prepares a program to run in the namespace; the end of ctx kills it.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.CommandContext(ctx, name, args...), ns: n}
}

// Start is [exec.Cmd.Start] in the namespace.
func (c *Cmd) Start() error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error)
	spawner() <- func() { done <- c.start() }
	if err := <-done; err != nil {
		return fmt.Errorf("%s: start %s: %w", c.ns.name, filepath.Base(c.Path), err)
	}
	return nil
}

func (c *Cmd) start() error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	if err := netns.Set(c.ns.handle); err != nil {
		return err
	}
	err = c.Cmd.Start()
	if back := netns.Set(home); back != nil {
		panic(fmt.Sprintf("lab: the spawning thread can't leave %s: %v", c.ns.full, back))
	}
	return err
}

// Run starts the program and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote to stdout; what it wrote to
// stderr is in the error.
func (c *Cmd) Output() ([]byte, error) {
	var out, errOut strings.Builder
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Run(); err != nil {
		return []byte(out.String()), fmt.Errorf("%s: %s: %w: %s", c.ns.name, filepath.Base(c.Path), err, strings.TrimSpace(errOut.String()))
	}
	return []byte(out.String()), nil
}

// CombinedOutput runs the program and returns stdout and stderr together.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return []byte(out.String()), err
}

// Spec sets how a long-running process is started.
type Spec struct {
	// Name is the process's log file, without ".log"; the program's name if empty.
	Name string
	// Args are the program and its arguments.
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Dir is the working directory.
	Dir string
	// Stdin is read to its end, if set.
	Stdin io.Reader
	// Credential is the user to run as, if not root.
	Credential *syscall.Credential
}

// Proc is a process in a namespace. Its methods may be called from any
// goroutine.
type Proc struct {
	// PID is the process's id, also when it has ended.
	PID int
	// Log receives stdout and stderr.
	Log *Log

	cmd  *Cmd
	name string
	done chan struct{}
	err  error // of Wait; valid once done is closed
}

// Start starts a process whose output goes to a file in the lab's log
// directory. It is killed when ctx ends, when the lab closes, and when this
// process dies.
func (n *Namespace) Start(ctx context.Context, s Spec) (*Proc, error) {
	if s.Name == "" {
		s.Name = filepath.Base(s.Args[0])
	}
	log, err := newLog(filepath.Join(n.logDir, n.name+"-"+s.Name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := n.Command(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Dir, cmd.Stdin = s.Dir, s.Stdin
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.Credential}
	// A grandchild that holds the output open must not hold up Wait.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.close())
	}
	p := &Proc{PID: cmd.Process.Pid, Log: log, cmd: cmd, name: n.name + " " + s.Name, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
		if err := log.close(); p.err == nil {
			p.err = err
		}
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Wait waits for the process's end and returns what [exec.Cmd.Wait] does.
func (p *Proc) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s is still running: %w", p.name, ctx.Err())
	}
}

// ExitCode is the process's exit code, or -1 if it runs or was killed.
func (p *Proc) ExitCode() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Signal sends a signal. A process that has ended is no error.
func (p *Proc) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Proc) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Term asks the process to end with SIGTERM and waits for it; its exit status is
// the error.
func (p *Proc) Term(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// Stop freezes the process with SIGSTOP, and returns when none of its threads runs any more.
func (p *Proc) Stop() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return Until(ctx, "a process that stands still", func() (bool, error) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID))
		if err != nil || len(stats) == 0 {
			return false, fmt.Errorf("process %d has no threads: %w", p.PID, err)
		}
		for _, name := range stats {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // the thread has ended
			}
			// The state follows the name in parentheses (proc_pid_stat(5)).
			if i := bytes.LastIndexByte(b, ')'); i < 0 || i+2 >= len(b) || b[i+2] != 'T' {
				return false, nil
			}
		}
		return true, nil
	})
}

// stopWithin bounds how long a stopped process may still run.
const stopWithin = 5 * time.Second

// Cont thaws a frozen process with SIGCONT.
func (p *Proc) Cont() error { return p.Signal(syscall.SIGCONT) }

// Saw waits until the process has written text, or returns an error with the end
// of the log if the process or ctx ends first.
func (p *Proc) Saw(ctx context.Context, text string) error {
	for {
		found, changed := p.Log.has(text)
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-p.done:
			if found, _ := p.Log.has(text); found {
				return nil
			}
			return fmt.Errorf("%s ended (%w) before it wrote %q; its log ends:\n%s", p.name, p.err, text, p.Log.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s has not written %q: %w; its log ends:\n%s", p.name, text, ctx.Err(), p.Log.Tail(20))
		}
	}
}

// Usage is what a process has used so far.
type Usage struct {
	// RSS and PeakRSS are in bytes (VmRSS, VmHWM); 0 once the process has ended.
	RSS, PeakRSS int64
	// CPU is user and system time together.
	CPU time.Duration
}

// clockTick is the unit of times in /proc/pid/stat: USER_HZ, 100 everywhere.
const clockTick = 10 * time.Millisecond

// Usage reads the process's memory and CPU time, also after its end.
func (p *Proc) Usage() (Usage, error) {
	select {
	case <-p.done:
		s := p.cmd.ProcessState
		return Usage{CPU: s.UserTime() + s.SystemTime()}, nil
	default:
	}
	u, err := usage(p.PID)
	if err != nil {
		return u, fmt.Errorf("usage of %s: %w", p.name, err)
	}
	return u, nil
}

func usage(pid int) (u Usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			u.RSS = kb << 10
		case "VmHWM:":
			u.PeakRSS = kb << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The command's name, in parentheses, may hold blanks: fields count from behind it.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 13 {
		return u, errors.New("/proc/pid/stat is short")
	}
	for _, s := range f[11:13] { // utime and stime, proc(5)
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(n) * clockTick
	}
	return u, nil
}
