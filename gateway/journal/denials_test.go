package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/netstack/wire"
)

// TestDenialsAreReported: the log and the audit log have who was denied what, in one line each, and
// a snapshot shows it. A question that was denied counts as well.
func TestDenialsAreReported(t *testing.T) {
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "audit.log")
	log := hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true})
	to, err := audit.Open(audit.Config{To: path, Node: "red-1", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	started, ledger := time.Now(), denials.New(2)
	now := func() time.Duration { return time.Since(started) }
	j := New(Config{Audit: to, Denials: ledger, Sites: []string{"red", "gray"}, Now: now, Logger: log})
	target := netip.MustParseAddr("10.77.1.10")
	for i := range 1204 {
		ledger.Note(now(), &denials.Attempt{
			Site: 1, Reason: wire.Denied.String(), Proto: wire.ProtoTCP,
			Source:      netip.MustParseAddrPort(fmt.Sprintf("10.77.2.%d:40000", 9+i%4)),
			Destination: netip.AddrPortFrom(target, uint16(1+i%312)),
		})
	}
	j.DeniedQuestion(1, wire.ProtoTCP, netip.MustParseAddrPort("10.77.2.9:0"), netip.MustParseAddrPort("10.77.1.11:5432"))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Run(done); err != nil { // what is left at the end is reported
		t.Fatal(err)
	}
	want := "[WARN]  denials: denied packets: packets=1204 site=gray sources=\"10.77.2.9 and 3 more\" protocol=tcp destination=10.77.1.10 ports=\"312 ports\" reason=denied\n" +
		"[WARN]  denials: denied packets: packets=1 site=gray sources=10.77.2.9 protocol=tcp destination=10.77.1.11 ports=5432 reason=question\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var e struct {
		Event, Node string
		Denied      audit.Denial
	}
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || len(lines) != 2 {
		t.Fatalf("audit log: %s, %v", b, err)
	}
	if d := e.Denied; e.Event != "denied" || e.Node != "red-1" || d.SourceSite != "gray" || d.Destination != target || d.Packets != 1204 ||
		d.PortCount != 312 || len(d.Sources) != 4 || d.Reason != "denied" || d.Last.Before(started) || d.First.After(d.Last) {
		t.Errorf("audit log: %+v", e)
	}
	s := j.Denials()
	if len(s.Top) != 2 || s.Top[0].Packets != 1204 || s.Top[0].Site != "gray" || s.Top[0].Destination != target || len(s.Totals) != 2 {
		t.Errorf("status: %+v", s)
	}
}

// TestDenialsOfAScan: 65,536 destinations make a bounded number of lines.
func TestDenialsOfAScan(t *testing.T) {
	var out bytes.Buffer
	started, ledger := time.Now(), denials.New(2)
	now := func() time.Duration { return time.Since(started) }
	j := New(Config{Denials: ledger, Sites: []string{"red", "gray"}, Now: now, Logger: hclog.New(&hclog.LoggerOptions{Output: &out})})
	for i := range 1 << 16 {
		ledger.Note(now(), &denials.Attempt{
			Site: 1, Reason: wire.Denied.String(), Proto: wire.ProtoTCP, Source: netip.MustParseAddrPort("10.77.2.9:40000"),
			Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), 22),
		})
	}
	for range 5 {
		j.reportDenials(false)
	}
	if n := strings.Count(out.String(), "\n"); n != denials.KeysPerSite+1 || !strings.Contains(out.String(), "further destinations: packets=65504 ") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}
