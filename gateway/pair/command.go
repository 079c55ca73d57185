package pair

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// maxOutput bounds what is logged of a command's output, in bytes.
const maxOutput = 4096

// command is a program to be run when the role changes, without a shell.
type command struct {
	name string // on_active or on_standby
	args []string
}

// runCommands runs the commands of the queue, one after the other, so that
// an on_standby never overtakes the on_active before it.
func runCommands(ctx context.Context, log hclog.Logger, timeout time.Duration, queue <-chan command) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-queue:
			runCommand(ctx, log, timeout, c)
		}
	}
}

func runCommand(ctx context.Context, log hclog.Logger, timeout time.Duration, c command) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.WaitDelay = time.Second // its children may hold the output open
	out, err := cmd.CombinedOutput()
	if len(out) > maxOutput {
		out = out[:maxOutput]
	}
	// The arguments may be secrets, and logs are read by more people than configurations.
	kv := []any{"setting", c.name, "command", c.args[0], "took", time.Since(start), "output", strings.TrimSpace(string(out))}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		log.Error("command timed out and was killed", append(kv, "timeout", timeout)...)
	case err != nil:
		log.Error("command failed", append(kv, "error", err)...)
	default:
		log.Info("command done", kv...)
	}
}
