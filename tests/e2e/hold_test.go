package e2e

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// leaks counts packets to the other site's subnets that leave a gateway's host by
// its default route.
func leaks(t *testing.T, from *lab.Host, to *lab.Site) (stop func() int64) {
	t.Helper()
	var n atomic.Int64
	c, err := from.Capture("wan0", lab.CaptureConfig{Each: func(p lab.Packet) {
		for _, s := range to.Subnets {
			if p.Outgoing && s.Contains(destination(p.Data)) {
				n.Add(1)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return func() int64 {
		t.Helper()
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		return n.Load()
	}
}

// destination is the address that a packet goes to.
func destination(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[16:20]))
	}
	return netip.AddrFrom16([16]byte(b[24:40]))
}

// sender sends packets with payload, each 2 ms from another of red's hosts in another family, to
// gray's database. It ends with the test if not before.
type sender struct {
	rounds atomic.Int64
	done   chan struct{}
	wg     sync.WaitGroup
}

// everySource is the rounds in which a sender goes through all hosts and families.
const everySource = 4

func (n *network) send(t *testing.T) *sender {
	t.Helper()
	s := &sender{done: make(chan struct{})}
	t.Cleanup(s.stop)
	s.wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for round := 0; ; round++ {
			select {
			case <-s.done:
				return
			case <-tick.C:
			}
			h := []*lab.Host{n.Red.DB(), n.Red.GW()}[round%2]
			i := round / 2 % 2
			src, dst := netip.AddrPortFrom(h.Addrs()[i], 4000), netip.AddrPortFrom(n.Gray.DB().Addrs()[i], 5432)
			// A hold refuses what the gateway's own host sends: what counts is what leaves.
			_ = h.SendIP(lab.TCPPacket(lab.Segment{Src: src, Dst: dst, Seq: 1, Ack: 1, Flags: lab.ACK, Window: 1000}, []byte("SELECT secret FROM customers")))
			_ = h.SendIP(lab.UDPPacket(src, dst, []byte("x")))
			s.rounds.Add(1)
		}
	})
	return s
}

// atLeast waits until so many more rounds are over.
func (s *sender) atLeast(t *testing.T, rounds int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	from := s.rounds.Load()
	if err := lab.Until(ctx, "packets sent", func() (bool, error) { return s.rounds.Load() >= from+rounds, nil }); err != nil {
		t.Fatal(err)
	}
}

func (s *sender) stop() {
	select {
	case <-s.done:
	default:
		close(s.done)
	}
	s.wg.Wait()
}

// through returns when what was sent before it has been through red's gateway.
func (n *network) through(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := lab.Ping(ctx, n.Red.GW().Namespace, netip.MustParseAddr("198.51.100.1"), 56); err != nil {
		t.Fatal(err)
	}
}

// TestNothingLeaks: whatever becomes of the gateway's process, no packet for the other site
// leaves unencrypted by the default route, and an older connection resumes when gw is back.
// `gw down` is what opens the host.
func TestNothingLeaks(t *testing.T) {
	n := start(t, setup{})
	gray := n.Gray.DB()
	echo, err := lab.EchoTCP(t.Context(), gray.Namespace, netip.AddrPortFrom(gray.LAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	pool, err := lab.OpenPool(t.Context(), n.Red.DB().Namespace, echo.Addr, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	site := filepath.Join(n.red.dir, "site.hcl")
	key := filepath.Join(n.red.dir, "private.key")
	up := func() {
		t.Helper()
		n.red.up()
		n.red.waitState(status.LinkUp)
	}
	refused := func(code int) {
		t.Helper()
		if got, out := n.red.run(t, "up", "-c", site); got != code {
			t.Errorf("exit code %d, want %d:\n%s", got, code, out)
		}
	}

	for _, event := range []struct {
		what string
		do   func()
	}{
		{"killed and started", func() { n.red.kill(); up() }},
		{"restarted", func() { n.red.term(); up(); n.red.term(); up() }},
		{"stopped", func() { n.red.term() }},
		{"refused for a mistake", func() { n.red.edit("policy {", "polity {"); refused(2); n.red.edit("polity {", "policy {") }},
		{"refused for a brace", func() { n.red.edit("policy {", "policy {{"); refused(2); n.red.edit("policy {{", "policy {") }},
		{"refused for the key", func() {
			if err := os.Rename(key, key+".away"); err != nil {
				t.Fatal(err)
			}
			refused(2)
			if err := os.Rename(key+".away", key); err != nil {
				t.Fatal(err)
			}
		}},
		{"refused by the host", func() {
			n.red.edit("log {", "status { listen = \"192.0.2.1:9770\" }\n  log {")
			refused(1)
			n.red.edit("status { listen = \"192.0.2.1:9770\" }", "")
		}},
		{"started again", up},
		{"started with other subnets", func() {
			n.red.term()
			n.red.edit(`"10.77.2.0/24"`, `"10.77.2.0/25", "10.77.2.128/25"`)
			n.red.up()
			n.red.waitStatus("red runs", func(status.Status) bool { return true })
			n.red.term()
			n.red.edit(`"10.77.2.0/25", "10.77.2.128/25"`, `"10.77.2.0/24"`)
			up()
		}},
	} {
		leaked, packets := leaks(t, n.Red.GW(), n.Gray), n.send(t)
		packets.atLeast(t, everySource)
		event.do()
		packets.atLeast(t, everySource)
		packets.stop()
		n.through(t)
		if got := leaked(); got != 0 {
			t.Errorf("%s: of %d rounds %d packets left unencrypted by the default route", event.what, packets.rounds.Load(), got)
		}
	}
	if err := pool.Check(patience); err != nil {
		t.Errorf("a connection from before the event: %v", err)
	}

	code, out := n.red.run(t, "down")
	check(t, code, 1, out, "gw0", "stop it first")
	n.red.term()
	if log := n.red.proc.Log.String(); !strings.Contains(log, "still held: 10.77.2.0/24, fd77:2::/64") || !strings.Contains(log, "gw down") {
		t.Errorf("the end of the log does not name what is held:\n%s", n.red.proc.Log.Tail(5))
	}
	for _, step := range []struct {
		command []string
		opens   bool
	}{
		{[]string{"down"}, true},
		{[]string{"hold", "-c", site}, false}, // as before the network is up at boot
		{[]string{"down"}, true},
		{[]string{"down"}, true},
	} {
		code, out := n.red.run(t, step.command...)
		check(t, code, 0, out)
		leaked, packets := leaks(t, n.Red.GW(), n.Gray), n.send(t)
		packets.atLeast(t, everySource)
		packets.stop()
		n.through(t)
		if got := leaked(); step.opens != (got > 0) {
			t.Errorf("after gw %s %d packets leave by the default route", step.command[0], got)
		}
	}
}
