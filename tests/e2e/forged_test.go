package e2e

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// datagram is one UDP datagram of the tunnel.
type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
}

// wiretap keeps datagrams of the tunnel that pass a gateway's WAN interface.
type wiretap struct {
	mu   sync.Mutex
	kept []datagram
}

// maxTapped is how many are kept.
const maxTapped = 4000

func (w *wiretap) each(p lab.Packet) {
	b := p.Data
	// Super-segments are left out: they are several datagrams.
	if b[0] != 0x45 || b[9] != 17 || p.Len != len(b) || p.Len > 1500 {
		return
	}
	d := datagram{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint16(b[20:])),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), binary.BigEndian.Uint16(b[22:])),
		bytes.Clone(b[28:]),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) < maxTapped {
		w.kept = append(w.kept, d)
	}
}

// TestForgedDatagrams: a host in the WAN replays datagrams of the tunnel,
// damages and invents others, and forges either gateway's source or a third one.
// Nothing is delivered twice, transfers continue, and memory stays bounded.
func TestForgedDatagrams(t *testing.T) {
	n := newNetwork(t, setup{})
	var tap wiretap
	seen, err := n.Gray.GW().Capture("wan0", lab.CaptureConfig{SnapLen: 2000, Each: tap.each})
	if err != nil {
		t.Fatal(err)
	}
	n.start()

	// Numbered datagrams, which a database would accept twice.
	gray := n.Gray.DB()
	sink, err := gray.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(gray.LAN4, 5432).String())
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	var got atomic.Int64
	const numbered = 200
	all := make(chan struct{})
	go func() {
		buf := make([]byte, 100)
		for {
			if _, _, err := sink.ReadFrom(buf); err != nil {
				return
			}
			if got.Add(1) == numbered {
				close(all)
			}
		}
	}()
	c, err := n.Red.DB().Dial(t.Context(), "udp", sink.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range numbered {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	<-all

	red, graySaw := startWatch(t, n.Red.DB()), startWatch(t, gray)
	runs := n.startTransfers(t, 16<<20)
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	if err := seen.Stop(); err != nil {
		t.Fatal(err)
	}
	// The kernel shows datagrams that left together as one.
	if len(tap.kept) < 50 {
		t.Fatalf("only %d datagrams were seen", len(tap.kept))
	}
	before := n.gray.link().Endpoint
	rnd := rand.New(rand.NewPCG(3, 4))
	sent := n.attack(t, tap.kept, rnd)
	n.finishTransfers(t, runs, patience)
	red.noResets(t)
	graySaw.noResets(t)
	if now := got.Load(); now != numbered {
		t.Errorf("the database received %d datagrams of %d", now, numbered)
	}
	for _, nd := range []*node{n.red, n.gray} {
		if l := nd.link(); l.State != status.LinkUp {
			t.Errorf("%s shows the link as %s", nd.name, l.State)
		}
		u, err := nd.proc.Usage()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: resident %d MB, at most %d", nd.name, u.RSS>>20, u.PeakRSS>>20)
		if u.PeakRSS > 128<<20 {
			t.Errorf("%s: %d MB of memory, want under 128", nd.name, u.PeakRSS>>20)
		}
	}
	if now := n.gray.link().Endpoint; now != before {
		t.Errorf("a forged datagram moved gray's endpoint from %s to %s", before, now)
	}
	t.Logf("%d forged datagrams", sent)
	carriesBulk(t, n.ways()[1], 4<<20)
}

// forged is how many datagrams attack sends at least.
const forged = 20000

// attack sends forged datagrams from the WAN to both gateways.
func (n *network) attack(t *testing.T, real []datagram, rnd *rand.Rand) (sent int) {
	t.Helper()
	stranger := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.66"), 4500)
	send := func(src, dst netip.AddrPort, payload []byte) {
		sent++
		if err := n.WAN.SendIP(lab.UDPPacket(src, dst, payload)); err != nil {
			t.Fatal(err)
		}
	}
	for sent < forged {
		d := real[rnd.IntN(len(real))]
		send(d.src, d.dst, d.payload)
		send(stranger, d.dst, d.payload)
		cut := d.payload[:rnd.IntN(len(d.payload)+1)]
		send(d.src, d.dst, cut)
		flipped := bytes.Clone(d.payload)
		flipped[rnd.IntN(len(flipped))] ^= 1 << rnd.IntN(8)
		send(d.src, d.dst, flipped)
		noise := make([]byte, rnd.IntN(200))
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		if len(noise) >= 4 && rnd.IntN(2) == 0 {
			copy(noise, []byte{byte(1 + rnd.IntN(4)), 0, 0, 0}) // a kind of message that there is
		}
		send(d.src, d.dst, noise)
	}
	return sent
}
