package e2e

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// junk sends 64-byte datagrams from the WAN to red's port, which look like the tunnel's.
type junk struct {
	fd       int
	red      netip.AddrPort
	gray     netip.AddrPort // whose address half of them claim
	index    uint32         // of red's session, as seen on the wire
	counter  uint64         // the last one seen
	random   *rand.Rand
	sent     int
	sendTime time.Duration
}

// junkEach and junkBatch make 5,000 datagrams a second.
const (
	junkEach  = 2 * time.Millisecond
	junkBatch = 10
)

// newJunk reads off the wire what an attacker in the WAN can see of the tunnel.
func (n *network) newJunk(t *testing.T, seen []datagram) *junk {
	t.Helper()
	j := &junk{random: rand.New(rand.NewPCG(5, 6))}
	for _, d := range seen {
		if len(d.payload) > 32 && d.payload[0] == 4 && d.dst.Addr() == n.Red.GW().WAN4 {
			j.red, j.gray = d.dst, d.src
			j.index, j.counter = binary.LittleEndian.Uint32(d.payload[4:]), binary.LittleEndian.Uint64(d.payload[8:])
		}
	}
	if !j.red.IsValid() {
		t.Fatal("no datagram to red was seen")
	}
	err := n.WAN.Do(func() (err error) {
		j.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(j.fd) })
	return j
}

// flood sends junk until ctx ends: with the session's index, or with unknown ones. Half of
// it has the peer's address, half the attacker's own.
func (j *junk) flood(ctx context.Context, known bool) error {
	stranger := netip.MustParseAddrPort("192.0.2.66:4500")
	tick := time.NewTicker(junkEach)
	defer tick.Stop()
	began := time.Now()
	defer func() { j.sendTime += time.Since(began) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for i := range junkBatch {
			payload := make([]byte, 64)
			payload[0] = 4
			index := j.index
			if !known {
				index ^= 1 + j.random.Uint32N(1<<31)
			}
			binary.LittleEndian.PutUint32(payload[4:], index)
			binary.LittleEndian.PutUint64(payload[8:], j.counter+j.random.Uint64N(1000))
			src := j.gray
			if i%2 == 0 {
				src = stranger
			}
			err := unix.Sendto(j.fd, lab.UDPPacket(src, j.red, payload), 0, &unix.SockaddrInet4{Addr: j.red.Addr().As4()})
			if err != nil && err != unix.ENOBUFS {
				return err
			}
			j.sent++
		}
	}
}

// TestJunkWithSessionIndex: a host in the WAN reads the index of red's session off the wire
// and sends 5,000 datagrams a second with it, from its own address and from gray's. Pings
// between the databases take at most twice as long as with as many datagrams that have an
// unknown index, and none is lost.
func TestJunkWithSessionIndex(t *testing.T) {
	n := newNetwork(t, setup{})
	var tap wiretap
	seen, err := n.Red.GW().Capture("wan0", lab.CaptureConfig{SnapLen: 2000, Each: tap.each})
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	w := n.ways()[0]
	ping := func() time.Duration {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		took, err := lab.Ping(ctx, w.from.Namespace, w.addr, 56)
		if err != nil {
			t.Fatalf("a ping was lost: %v", err)
		}
		return took
	}
	for range 5 {
		ping()
	}
	if err := seen.Stop(); err != nil {
		t.Fatal(err)
	}
	j := n.newJunk(t, tap.kept)

	// Short slices of both kinds in turn, since the load of the machine varies.
	// Pauses of up to 60 ms between pings let up to 300 datagrams arrive in between.
	const rounds, pings = 6, 12
	random := rand.New(rand.NewPCG(7, 8))
	var took [2][]time.Duration
	for range rounds {
		for kind, known := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			var flood sync.WaitGroup
			var failed error
			flood.Go(func() { failed = j.flood(ctx, known) })
			for range pings {
				<-time.After(time.Duration(random.IntN(60)) * time.Millisecond)
				took[kind] = append(took[kind], ping())
			}
			cancel()
			flood.Wait()
			if failed != nil {
				t.Fatal(failed)
			}
		}
	}
	s, err := n.red.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range took {
		slices.Sort(d)
	}
	unknown, known := took[0][len(took[0])/2], took[1][len(took[1])/2]
	t.Logf("%.0f datagrams a second; pings took %v with unknown indices, %v with the session's (p50); %d waits; %d undelivered",
		float64(j.sent)/j.sendTime.Seconds(), unknown, known, s.Datagrams.ReceiveWaits, s.Datagrams.Undelivered)
	// The floor is what the scheduler of a busy machine adds to either.
	if known > 2*unknown+time.Millisecond {
		t.Errorf("pings took %v with the session's index, and %v with unknown ones", known, unknown)
	}
	// Otherwise red took the datagrams for something else, and nothing was tested.
	if s.Datagrams.Undelivered < uint64(j.sent)/4 || s.Datagrams.UnknownSessions < uint64(j.sent)/4 {
		t.Errorf("of %d datagrams red counted %d with the session's index and %d with unknown ones",
			j.sent, s.Datagrams.Undelivered, s.Datagrams.UnknownSessions)
	}
}
