package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/capture/capturetest"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// trace asks the node what would happen.
func (n *node) trace(args ...string) status.Trace {
	n.t.Helper()
	out, err := n.host.Command(n.t.Context(), n.bin, append([]string{"trace", "--json", "--socket", n.socket}, args...)...).Output()
	var t status.Trace
	if jsonErr := json.Unmarshal(out, &t); jsonErr != nil {
		n.t.Fatalf("trace %v: %v, %v: %s", args, err, jsonErr, out)
	}
	var exit *exec.ExitError
	if passes := t.Verdict == status.TracePasses; passes && err != nil || !passes && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		n.t.Errorf("trace %v: %s, but %v", args, t.Verdict, err)
	}
	return t
}

// said is a trace in short: each node, its verdict or reason, and its rule.
func said(t status.Trace) (out []string) {
	for _, s := range t.Steps {
		verdict := string(s.Verdict)
		if s.Reason != "" {
			verdict = s.Reason
		}
		out = append(out, strings.TrimSpace(s.Node+" "+verdict+" "+s.Rule+" "+s.State))
	}
	return out
}

// captured are the packets of a flow that the node has seen lately, in short.
func (n *node) captured(spec string) (out []string, file []byte) {
	n.t.Helper()
	path := filepath.Join(n.dir, "x.pcapng")
	if b, err := n.host.Command(n.t.Context(), n.bin, "capture", "--last", "60s", "--flow", spec, "-w", path, "--socket", n.socket).CombinedOutput(); err != nil {
		n.t.Fatalf("capture: %v: %s", err, b)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	f, err := capturetest.Read(file)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range f.Packets {
		dir := "to"
		if p.Inbound {
			dir = "from"
		}
		out = append(out, dir+" "+p.Interface+" "+p.Comment)
	}
	return out, file
}

// captureLive begins to capture so many packets of a flow, and returns what waits for them.
func (n *node) captureLive(spec string, count int) (wait func() []capturetest.Packet) {
	n.t.Helper()
	path := filepath.Join(n.dir, "live.pcapng")
	p, err := n.host.Start(n.t.Context(), lab.Spec{Name: "capture", Args: []string{
		n.bin, "capture", "--flow", spec, "--count", strconv.Itoa(count), "-w", path, "--socket", n.socket,
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	if err := lab.Until(ctx, "the capture to begin", func() (bool, error) {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0, nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return func() []capturetest.Packet {
		n.t.Helper()
		if err := p.Wait(ctx); err != nil {
			n.t.Fatalf("capture: %v: %s", err, p.Log)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		f, err := capturetest.Read(b)
		if err != nil {
			n.t.Fatal(err)
		}
		return f.Packets
	}
}

// TestTraceAndCapture: what a trace shows of a connection that is permitted, of one that
// the near gateway denies and of one that the far one does, is what happens to them, and
// what the captures of both gateways show of them.
func TestTraceAndCapture(t *testing.T) {
	const rules = `
  rule "replication" {
    from  = ["gray"]
    to    = ["red"]
    ports = ["tcp/5432"]
  }
  rule "half" {
    from  = ["gray"]
    to    = ["red"]
    ports = ["tcp/5433"]
  }`
	n := newNetwork(t, setup{rules: rules})
	n.red.edit(`"tcp/5433"`, `"tcp/5434"`)
	n.start()
	from, to := n.Gray.DB(), n.Red.DB()
	port := func(p uint16) netip.AddrPort { return netip.AddrPortFrom(to.LAN4, p) }
	for _, tt := range []struct {
		port uint16
		want []string
	}{
		{5432, []string{"gray-1 passes replication", "red-1 passes replication"}},
		{5433, []string{"gray-1 passes half", "red-1 denied"}},
		{5435, []string{"gray-1 denied", "red-1 denied"}},
	} {
		for i, nd := range []*node{n.gray, n.red} { // either asks the other, which sends its verdict only
			want := slices.Clone(tt.want)
			name, verdict, _ := strings.Cut(want[1-i], " ")
			verdict, _, _ = strings.Cut(verdict, " ")
			want[1-i] = name + " " + verdict
			if got := said(nd.trace(from.LAN4.String(), port(tt.port).String())); !slices.Equal(got, want) {
				t.Errorf("%s reports for port %d: %q, want %q", nd.name, tt.port, got, want)
			}
		}
	}
	if got := said(n.gray.trace(from.LAN4.String(), "192.0.2.7:5432")); !slices.Equal(got, []string{"gray-1 no-route"}) {
		t.Errorf("no route: %q", got)
	}

	// The rule names the site, and that leaves its gateway out.
	gateway := netip.AddrPortFrom(n.Red.GW().Node4, 5432)
	leftOut := n.gray.trace(from.LAN4.String(), gateway.String())
	if got := said(leftOut); !slices.Equal(got, []string{"gray-1 denied", "red-1 denied"}) || leftOut.Steps[0].LeftOut != "replication" {
		t.Errorf("to red's gateway: %q, left out by %q", got, leftOut.Steps[0].LeftOut)
	}
	if _, err := lab.PingPong(t.Context(), from.Namespace, "tcp", gateway, 1, 1); !prohibited(err, gateway.Addr()) {
		t.Errorf("red's gateway: %v, want administratively prohibited", err)
	}

	echo, err := lab.EchoTCP(t.Context(), to.Namespace, port(5432))
	if err != nil {
		t.Fatal(err)
	}
	live := n.gray.captureLive(port(5432).String(), 6)
	if _, err := lab.PingPong(t.Context(), from.Namespace, "tcp", port(5432), 3, 700); err != nil {
		t.Errorf("permitted: %v", err)
	}
	if got := live(); len(got) != 6 || got[0].Interface != "gw0" || got[1].Interface != "link" {
		t.Errorf("live: %+v", got)
	}
	for _, p := range []uint16{5433, 5435} {
		if _, err := lab.PingPong(t.Context(), from.Namespace, "tcp", port(p), 1, 1); !prohibited(err, to.LAN4) {
			t.Errorf("port %d: %v, want administratively prohibited", p, err)
		}
	}
	if err := echo.Close(); err != nil {
		t.Fatal(err)
	}

	// Permitted: every packet on both sides of both gateways, by the rule.
	for _, nd := range []*node{n.gray, n.red} {
		got, file := nd.captured(port(5432).String())
		count := map[string]int{}
		for _, g := range got {
			dir, iface, _ := strings.Cut(g, " ")
			iface, comment, _ := strings.Cut(iface, " ")
			count[dir+" "+iface]++
			if !strings.HasPrefix(comment, "rule replication (") || !strings.Contains(comment, "/site.hcl:") {
				t.Errorf("%s: %q", nd.name, g)
			}
		}
		if count["from gw0"] < 5 || count["from gw0"] != count["to link"] || count["from link"] < 5 || count["from link"] != count["to gw0"] {
			t.Errorf("%s: the capture lacks packets of one side: %v", nd.name, count)
		}
		if bytes.Contains(file, make([]byte, 100)) {
			t.Errorf("%s: the capture holds a payload", nd.name)
		}
	}
	// Denied by red: gray carries the SYN, and the answer; nothing reaches red's host.
	want := map[*node][]string{
		n.gray: {"from gw0 rule half", "to link rule half", "from link rule half", "to gw0 rule half"},
		n.red:  {"from link dropped: denied", "to link from the gateway's queue"},
	}
	for nd, want := range want {
		got, _ := nd.captured(fmt.Sprintf("%s %s tcp", from.LAN4, port(5433)))
		if !alike(got, want) {
			t.Errorf("%s has seen %q of port 5433, want %q", nd.name, got, want)
		}
	}
	// Denied by gray: nothing reaches the link.
	got, _ := n.gray.captured(port(5435).String())
	if want := []string{"from gw0 dropped: denied", "to gw0 from the gateway's queue"}; !alike(got, want) {
		t.Errorf("gray-1 has seen %q of port 5435, want %q", got, want)
	}
	if got, _ := n.red.captured(port(5435).String()); len(got) != 0 {
		t.Errorf("red-1 has seen %q of port 5435", got)
	}
}

// alike reports whether each text begins like one that is wanted, and each that is
// wanted is there. A SYN may have been sent twice.
func alike(got, want []string) bool {
	is := func(text, want string) bool { return strings.HasPrefix(text, want) }
	for _, g := range got {
		if !slices.ContainsFunc(want, func(w string) bool { return is(g, w) }) {
			return false
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return is(g, w) }) {
			return false
		}
	}
	return true
}
