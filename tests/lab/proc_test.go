package lab

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCommand(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	for _, n := range l.Namespaces() {
		out, err := n.Command(ctx, "readlink", "/proc/self/ns/net").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pidsIn(n.Path()); err != nil || len(got) != 0 {
			t.Errorf("%s: processes %v, %v, want none", n.Name(), got, err)
		}
		if !strings.HasPrefix(string(out), "net:[") {
			t.Errorf("%s: readlink prints %q", n.Name(), out)
		}
	}
	// Run returns the exit status and stderr.
	_, err := l.WAN.Command(ctx, "sh", "-c", "echo broken >&2; exit 3").Output()
	if err == nil || !strings.Contains(err.Error(), "broken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a failing command: %v", err)
	}
}

func TestProc(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	p, err := l.Red.DB().Start(ctx, Spec{Args: []string{"sh", "-c", `
		trap 'echo stopping; exit 7' TERM
		i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
		echo ready; while :; do sleep 0.01; done`}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Saw(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if got, err := pidsIn(l.Red.DB().Path()); err != nil || !slices.Contains(got, p.PID) {
		t.Errorf("processes in the namespace: %v, %v, want %d", got, err, p.PID)
	}
	u, err := p.Usage()
	if err != nil || u.RSS < 100<<10 || u.PeakRSS < u.RSS || u.CPU == 0 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.Cont(); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v, want SIGKILL", s)
	}
	if err := p.Saw(ctx, "never written"); err == nil || !strings.Contains(err.Error(), "ready") {
		t.Errorf("waiting for text of a dead process: %v, want an error with its log", err)
	}
}
