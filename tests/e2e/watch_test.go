package e2e

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// watch captures a database's LAN interface until the test checks it.
type watch struct {
	host *lab.Host
	cap  *lab.Capture
	tcp  lab.TCPStats

	mu     sync.Mutex
	fins   map[[2]netip.AddrPort]bool // by sender and receiver
	resets []string
}

func startWatch(t testing.TB, h *lab.Host) *watch {
	t.Helper()
	w := &watch{host: h, fins: map[[2]netip.AddrPort]bool{}}
	var err error
	if w.cap, err = h.Capture("lan0", lab.CaptureConfig{PCAP: true, Each: w.each}); err != nil {
		t.Fatal(err)
	}
	return w
}

// each notes resets. One on a connection that both ends have closed is none: a
// segment that was sent twice at the end has found that the socket is gone, as
// happens without any gateway too.
func (w *watch) each(p lab.Packet) {
	w.tcp.Each(p)
	s, ok := lab.DecodeTCP(p)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	there, back := [2]netip.AddrPort{s.Src, s.Dst}, [2]netip.AddrPort{s.Dst, s.Src}
	switch {
	case s.Flags&lab.SYN != 0:
		delete(w.fins, there)
		delete(w.fins, back)
	case s.Flags&lab.FIN != 0:
		w.fins[there] = true
	case s.Flags&lab.RST != 0 && !(w.fins[there] && w.fins[back]):
		w.resets = append(w.resets, fmt.Sprintf("%s %s > %s seq %d", p.Time.Format("15:04:05.000000"), s.Src, s.Dst, s.Seq))
	}
}

// stop ends the capture.
func (w *watch) stop(t testing.TB) {
	t.Helper()
	if err := w.cap.Stop(); err != nil {
		t.Fatal(err)
	}
}

// noResets ends the capture and fails the test if the database saw a reset.
func (w *watch) noResets(t testing.TB) {
	t.Helper()
	w.stop(t)
	if len(w.resets) != 0 {
		t.Errorf("%s saw %d resets, the first: %s", w.host.Name(), len(w.resets), w.resets[0])
	}
}
