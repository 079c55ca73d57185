package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// answering is a gateway that gives one answer for one path, until the test ends. It checks the
// query.
func answering(t *testing.T, path string, answer func(w http.ResponseWriter, r *http.Request)) (socket string) {
	t.Helper()
	return serveWith(t, madeUp{}, control.Route{Pattern: "GET " + path, Handler: http.HandlerFunc(answer)})
}

// traced is a packet of gray to red that passes on both nodes.
func traced() status.Trace {
	return status.Trace{
		Proto: "tcp", Source: netip.MustParseAddr("10.77.2.10"), SourcePort: 40000,
		Destination: netip.MustParseAddr("10.77.1.10"), DestinationPort: 5432, Bytes: 60, Verdict: status.TracePasses,
		Steps: []status.TraceStep{
			{
				Node: "gray-1", Site: "gray", From: "host", Verdict: status.TracePasses, To: "red", Carrier: "red-1",
				Rule: "replication", RulePos: "site.hcl:31", Mode: "raw", Why: "at first; relayed when it moves bulk: the link has a round trip of 40 ms",
				MTU: 1420, PathMTU: 1420, Packets: 1, LargestBytes: 60, MSS: 1380,
			},
			{
				Node: "red-1", Site: "red", From: "link", Verdict: status.TracePasses,
				Rule: "replication", RulePos: "site.hcl:31", MTU: 1420, PathMTU: 1380, Packets: 1, LargestBytes: 60, MSS: 1340,
			},
		},
	}
}

func TestTraceText(t *testing.T) {
	denied := traced()
	denied.Verdict = status.TraceDropped
	denied.Steps[0] = status.TraceStep{
		Node: "gray-1", Site: "gray", From: "host", Verdict: status.TraceDropped, Reason: "denied", To: "red", Carrier: "red-1",
		MTU: 1420, Answers: []string{"administratively prohibited"},
	}
	farDenied := traced()
	farDenied.Verdict = status.TraceDropped
	farDenied.Steps[1] = status.TraceStep{
		Node: "red-1", Site: "red", From: "link", Verdict: status.TraceDropped, Reason: "denied", MTU: 1420, Answers: []string{"administratively prohibited"},
	}
	withheld := traced()
	withheld.Steps[1] = status.TraceStep{Node: "red-1", Site: "red", From: "link", Verdict: status.TracePasses, VerdictOnly: true}
	withheldDenied := traced()
	withheldDenied.Verdict = status.TraceDropped
	withheldDenied.Steps[1] = status.TraceStep{Node: "red-1", Site: "red", From: "link", Verdict: status.TraceDropped, Reason: "denied", VerdictOnly: true}
	withheldDropped := withheldDenied
	withheldDropped.Steps = slices.Clone(withheldDenied.Steps)
	withheldDropped.Steps[1].Reason = ""
	noRoute := traced()
	noRoute.Verdict = status.TraceDropped
	noRoute.Destination = netip.MustParseAddr("192.0.2.7")
	noRoute.Steps = []status.TraceStep{{Node: "gray-1", Site: "gray", From: "host", Verdict: status.TraceDropped, Reason: "no-route", MTU: 1420}}
	tooBig := traced()
	tooBig.Verdict = status.TraceDropped
	tooBig.Proto, tooBig.Bytes = "udp", 1500
	tooBig.Steps = []status.TraceStep{{
		Node: "gray-1", Site: "gray", From: "host", Verdict: status.TraceDropped, Reason: "too-big", To: "red", Carrier: "red-1",
		Rule: "names", RulePos: "site.hcl:37", MTU: 1420, PathMTU: 1380, Answers: []string{"fragmentation needed, mtu 1380"},
	}}
	known := traced()
	known.Bytes = 4000
	known.Steps[0].State, known.Steps[0].OpenedFrom, known.Steps[0].Mode, known.Steps[0].Why = "established", "10.77.2.10", "relayed", "the link loses 0.3 %"
	known.Steps[0].MSS, known.Steps[0].Packets, known.Steps[0].LargestBytes = 0, 3, 1420
	known.Steps[1] = status.TraceStep{
		Node: "red-1", Site: "red", From: "link", Verdict: status.TraceUnknown,
		Unknown: "it does not answer; a gw older than this one can't: dial 10.77.1.1:9775 inside the tunnel: context deadline exceeded",
	}
	known.Verdict = status.TraceUnknown
	standby := traced()
	standby.Standby, standby.Active = "gray-2", "gray-1"
	standby.Steps = append([]status.TraceStep{{Node: "gray-2", Site: "gray", From: "host", Verdict: status.TracePasses, PassedTo: "gray-1", MTU: 1420, Packets: 1}}, standby.Steps...)
	for _, tt := range []struct {
		golden string
		trace  status.Trace
		code   int
	}{
		{"trace-standby.txt", standby, 0},
		{"trace-passes.txt", traced(), 0},
		{"trace-denied.txt", denied, 1},
		{"trace-far-denied.txt", farDenied, 1},
		{"trace-withheld.txt", withheld, 0},
		{"trace-withheld-denied.txt", withheldDenied, 1},
		{"trace-withheld-dropped.txt", withheldDropped, 1},
		{"trace-no-route.txt", noRoute, 1},
		{"trace-too-big.txt", tooBig, 1},
		{"trace-unknown.txt", known, 1},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			socket := answering(t, "/v1/trace", func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.URL.RawQuery, "destination=10.77.1.10%3A5432&proto=udp&size=77&source=10.77.2.10"; got != want {
					t.Errorf("asked for %q, want %q", got, want)
				}
				control.WriteJSON(w, tt.trace)
			})
			stdout, stderr, code := gw("trace", "10.77.2.10", "10.77.1.10:5432", "udp", "--size", "77", "--socket", socket)
			if code != tt.code || stderr != "" {
				t.Fatalf("exit %d, want %d: %s", code, tt.code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, tt.golden, stdout)
			stdout, _, code = gw("trace", "10.77.2.10", "10.77.1.10:5432", "udp", "--size", "77", "--json", "--socket", socket)
			var back status.Trace
			if err := json.Unmarshal([]byte(stdout), &back); err != nil || code != tt.code || back.Verdict != tt.trace.Verdict || len(back.Steps) != len(tt.trace.Steps) {
				t.Errorf("json: exit %d, %v: %s", code, err, stdout)
			}
		})
	}
}

func TestTraceArguments(t *testing.T) {
	socket := []string{"--socket", filepath.Join(t.TempDir(), "none")}
	for _, tt := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"trace 10.77.2.10 10.77.1.10:5432", 1, "no gateway is running here"},
		{"trace 10.77.2.10 10.77.1.10 icmp", 1, "no gateway is running here"},
		{"trace any 10.77.1.10 --live", 1, "no gateway is running here"},
		{"trace 10.77.2.10", 2, "name both ends by their addresses"},
		{"trace 10.77.2.10 10.77.1.10", 2, "name the port that it goes to: 10.77.1.10:PORT"},
		{"trace any 10.77.1.10:5432", 2, `"any" goes with --live`},
		{"trace 10.77.2.10 nowhere:5432", 2, `"nowhere:5432" is no end: write 10.77.1.10`},
		{"trace 10.77.2.10 fd77:1::a", 2, "mixes IPv4 and IPv6"},
		{"trace 10.77.2.10 10.77.1.10:5432 sctp", 2, "must be one of"},
		{"trace 10.77.2.10 10.77.1.10:5432 icmp", 2, "icmp has no ports"},
		{"trace 10.77.2.10 10.77.1.10:5432 --size 65536", 2, "use a number of bytes up to 65535"},
		{"trace 10.77.2.10 10.77.1.10:5432 --count 1", 2, "go with --live"},
		{"trace 10.77.2.10 10.77.1.10:5432 --live --size 100", 2, "real packets have a size"},
		{"trace any any --live --for=-1s", 2, "use more than nothing"},
		{"capture --flow nowhere -w x", 2, `"nowhere" is no end`},
		{"capture --last 5s --for 5s", 2, "exclude each other"},
		{"capture --count=-1", 2, "use more than nothing"},
		{"capture -w /nowhere/x", 1, "no gateway is running here"},
	} {
		_, stderr, code := gw(append(strings.Fields(tt.args), socket...)...)
		if code != tt.code || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%s: exit %d, want %d: %s, want %q", tt.args, code, tt.code, stderr, tt.stderr)
		}
	}
}

func TestTraceLive(t *testing.T) {
	at := time.Date(2026, 3, 14, 15, 9, 26, 123456789, time.Local)
	a, b := netip.MustParseAddr("10.77.2.10"), netip.MustParseAddr("10.77.1.10")
	packets := []status.Packet{
		{Time: at, Side: "link", Direction: "in", Proto: "tcp", Source: a, SourcePort: 40000, Destination: b, DestinationPort: 5432, Info: "SYN", Bytes: 60, Verdict: status.TracePasses, Rule: "replication", RulePos: "site.hcl:31"},
		{Time: at, Side: "host", Direction: "in", Proto: "tcp", Source: b, SourcePort: 5432, Destination: a, DestinationPort: 40000, Info: "SYN ACK", Bytes: 60, Verdict: status.TracePasses, Rule: "replication", RulePos: "site.hcl:31", Note: "taken by the relay"},
		{Time: at, Side: "link", Direction: "in", Proto: "tcp", Source: a, SourcePort: 40001, Destination: b, DestinationPort: 22, Info: "SYN", Bytes: 60, Verdict: status.TraceDropped, Reason: "denied"},
		{Time: at, Side: "link", Direction: "out", Proto: "icmp", Source: b, Destination: a, Info: "administratively prohibited, about 10.77.1.10:22", Bytes: 88, Verdict: status.TracePasses, Note: "from the gateway's queue"},
		{Time: at, Side: "host", Direction: "in", Bytes: 3, Verdict: status.TraceDropped, Reason: "short"},
	}
	socket := answering(t, "/v1/packets", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("flow"); got != "any 10.77.1.10 tcp" {
			t.Errorf("asked for %q", got)
		}
		enc := json.NewEncoder(w)
		for _, p := range packets {
			_ = enc.Encode(p) // a client that has enough goes away
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	stdout, stderr, code := gw("trace", "any", "10.77.1.10", "--live", "--count", "5", "--socket", socket)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkWidth(t, stdout)
	checkGolden(t, "trace-live.txt", stdout)
	stdout, _, code = gw("trace", "any", "10.77.1.10", "--live", "--count", "2", "--json", "--socket", socket)
	if code != 0 || strings.Count(stdout, "\n") != 2 {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if _, stderr, code := gw("trace", "any", "10.77.1.10", "--live", "--for", "1ms", "--socket", socket); code != 0 || stderr != "" {
		t.Errorf("at the end of its time: exit %d: %s", code, stderr)
	}
}

// block is a pcapng block of a type.
func block(kind uint32, n int) []byte {
	b := make([]byte, n)
	binary.NativeEndian.PutUint32(b, kind)
	binary.NativeEndian.PutUint32(b[4:], uint32(n))
	binary.NativeEndian.PutUint32(b[n-4:], uint32(n))
	return b
}

// TestCapture: the file ends behind a whole block, however the capture ends.
func TestCapture(t *testing.T) {
	whole := bytes.Join([][]byte{block(0x0a0d0d0a, 28), block(1, 20), block(6, 100), block(6, 40), block(5, 24)}, nil)
	for _, tt := range []struct {
		name   string
		args   []string
		body   []byte
		hang   bool // the gateway says no more, and does not end
		want   []byte
		n      int
		stderr string // instead
	}{
		{name: "all", body: whole, want: whole, n: 2},
		{name: "one packet", args: []string{"--count", "1"}, body: whole, hang: true, want: whole[:148], n: 1},
		{name: "in the middle of a packet when the gateway goes", body: whole[:180], want: whole[:148], stderr: "gw: read the capture: unexpected EOF\n"},
		{name: "nonsense", body: []byte("nonsense"), stderr: "gw: read the capture: a block of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := answering(t, "/v1/capture", func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.URL.RawQuery, "flow=10.77.1.10%3A5432+any+tcp"; got != want {
					t.Errorf("asked for %q, want %q", got, want)
				}
				_, _ = w.Write(tt.body) // a client that has enough goes away
				_ = http.NewResponseController(w).Flush()
				if tt.hang {
					<-r.Context().Done()
				}
			})
			file := filepath.Join(t.TempDir(), "x.pcapng")
			_, stderr, code := gw(append([]string{"capture", "--flow", "10.77.1.10:5432 tcp", "-w", file, "--socket", socket}, tt.args...)...)
			got, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(got, tt.want) {
				t.Errorf("%d bytes, want %d, %v", len(got), len(tt.want), err)
			}
			if tt.stderr != "" {
				if code != 1 || !strings.Contains(stderr, tt.stderr) {
					t.Errorf("exit %d: %s", code, stderr)
				}
				return
			}
			if want := fmt.Sprintf("%s written to %s\n", plural(tt.n, "packet"), file); code != 0 || stderr != want {
				t.Errorf("exit %d: %q, want %q", code, stderr, want)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is readable for others: %v, %v", info.Mode(), err)
			}
		})
	}
	t.Run("in the middle of a packet when the time is over", func(t *testing.T) {
		in, gateway := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = gateway.Write(whole[:180])
			cancel()
			gateway.CloseWithError(ctx.Err()) // as the client's connection is then
		}()
		var out bytes.Buffer
		if n, err := copyBlocks(ctx, &out, in, 0); n != 1 || err != nil || !bytes.Equal(out.Bytes(), whole[:148]) {
			t.Errorf("%d packets, %d bytes, %v", n, out.Len(), err)
		}
	})
	socket := answering(t, "/v1/capture", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "flow=any+any&last=1m0s" {
			t.Errorf("asked for %q", r.URL.RawQuery)
		}
		_, _ = w.Write(whole)
	})
	if stdout, stderr, code := gw("capture", "--last", "60s", "--socket", socket); code != 0 || stderr != "" || stdout != string(whole) {
		t.Errorf("to standard output: exit %d, %d bytes: %s", code, len(stdout), stderr)
	}
}
