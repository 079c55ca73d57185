package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/safefile"
	"github.com/onewaylink/gw/gateway/status"
)

type captureCmd struct {
	socketFlags
	Flow  string        `placeholder:"FLOW" help:"Only these flows: \"END [END] [PROTO]\", where an end is ADDRESS, ADDRESS:PORT or any, and the protocol tcp, udp or icmp."`
	Last  time.Duration `placeholder:"TIME" help:"Write the packets of the last TIME, such as 60s, that are still in memory, instead of new ones."`
	Write string        `short:"w" placeholder:"FILE" complete:"file" help:"Where to write; default: standard output, also \"-\"."`
	Count int           `placeholder:"N" help:"End after N packets."`
	For   time.Duration `placeholder:"TIME" help:"End after a time such as 30s."`
}

// Help is shown by kong below the command.
func (captureCmd) Help() string {
	return "The file has two interfaces, the host's side of the gateway and the link's, so that each packet is there as it came and as it left. " +
		"A comment on each names the rule, and why it was dropped. It holds headers only, no payload: for that, run tcpdump on the tunnel device.\n\n" +
		"  gw capture --last 60s -w last.pcapng\n" +
		"  gw capture --flow '10.77.2.10 10.77.1.10:5432 tcp' | tcpdump -nr -\n\n" +
		"Wireshark and tshark show the comments (frame.comment). They take the second copy of a packet for a retransmission: look at one side, " +
		"with frame.interface_name == \"link\". tcpdump reads the file, and shows no comments."
}

// Validate refuses what kong's types can't.
func (c *captureCmd) Validate() error {
	if c.Count < 0 || c.For < 0 || c.Last < 0 {
		return errors.New("--count, --for and --last: use more than nothing, or leave them out")
	}
	if c.Last > 0 && c.For > 0 {
		return errors.New("--last and --for exclude each other: --last writes past packets, --for waits for new ones")
	}
	_, err := status.ParseFlowSpec(c.Flow)
	return err
}

// Run copies what the running gateway gives.
func (c *captureCmd) Run(env *env) (err error) {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	spec, err := status.ParseFlowSpec(c.Flow)
	if err != nil {
		return usagef("%w", err)
	}
	toStdout := c.Write == "" || c.Write == "-"
	if toStdout && isTerminal(env.stdout) {
		return usagef("a capture is nothing for a terminal: name a file with -w, or pipe it: gw capture | tcpdump -nr -")
	}
	ctx, cancel := within(env.ctx, c.For)
	defer cancel()
	in, err := control.NewClient(path).Capture(ctx, spec, c.Last)
	if err != nil {
		return askError(err)
	}
	defer in.Close()
	out := env.stdout
	if !toStdout {
		// Its readers see who talks to whom. A file that is there is replaced when the capture
		// ends.
		f, openErr := safefile.Replace(c.Write, 0o600)
		if openErr != nil {
			return fmt.Errorf("write capture: %w; choose another file with -w", openErr)
		}
		// Also after an error: a capture is good wherever it ends.
		defer func() { err = errors.Join(err, f.Commit()) }()
		out = f
	}
	n, err := copyBlocks(ctx, out, in, c.Count)
	if !toStdout {
		fmt.Fprintf(env.stderr, "%s written to %s\n", plural(n, "packet"), c.Write)
	}
	return err
}

// maxBlock is more than any block of a capture takes, which holds headers and a comment.
const maxBlock = 1 << 20

// packetBlock is the type of the block that holds a packet (draft-ietf-opsawg-pcapng section 4.3).
const packetBlock = 6

// copyBlocks copies whole blocks of a pcapng file, so that it is good wherever it ends: behind
// count packets, with the source, or when ctx is over. It returns how many packets there were.
func copyBlocks(ctx context.Context, out io.Writer, in io.Reader, count int) (n int, err error) {
	r := bufio.NewReaderSize(in, 64<<10)
	var block []byte
	for {
		head, err := r.Peek(8)
		if err != nil {
			if errors.Is(err, io.EOF) && len(head) == 0 || ctx.Err() != nil {
				return n, nil
			}
			return n, fmt.Errorf("read the capture: %w", err)
		}
		// The gateway runs on this machine and writes in its byte order.
		kind, size := binary.NativeEndian.Uint32(head), binary.NativeEndian.Uint32(head[4:])
		if size < 12 || size > maxBlock {
			return n, fmt.Errorf("read the capture: a block of %d bytes", size)
		}
		block = slices.Grow(block[:0], int(size))[:size]
		if _, err := io.ReadFull(r, block); err != nil {
			if ctx.Err() != nil {
				return n, nil
			}
			return n, fmt.Errorf("read the capture: %w", err)
		}
		if _, err := out.Write(block); err != nil {
			return n, fmt.Errorf("write capture: %w", err)
		}
		if kind == packetBlock {
			if n++; n == count {
				return n, nil
			}
		}
	}
}
