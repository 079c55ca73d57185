//go:build soak

package e2e

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// TestPairTimersLong kills the active node of either site in the middle of a
// transfer in one direction or both, over paths of several round trips, and shows at
// the sender what the stall consists of: its kernel's timers, and what came before
// them. Every line is a finding; the bound is that of the table of a pair.
func TestPairTimersLong(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true})
	n.start()
	for _, rtt := range []time.Duration{2 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond} {
		n.Box.SetBoth(lab.Impairment{Rate: 100e6, QueueBytes: 100 << 10, Delay: rtt / 2})
		for _, c := range []struct {
			name     string
			from, to *lab.Host
			addr     netip.Addr
			back     int64
		}{
			{"red sends", n.Red.DB(), n.Gray.DB(), n.Gray.DB().LAN4, 0},
			{"gray sends", n.Gray.DB(), n.Red.DB(), n.Red.DB().LAN6, 0},
			{"both send", n.Red.DB(), n.Gray.DB(), n.Gray.DB().LAN6, timedBytes},
		} {
			for _, site := range [][]*node{n.red, n.gray} {
				t.Run(fmt.Sprintf("%v, %s, a node of %s dies", rtt, c.name, site[0].host.Name()), func(t *testing.T) {
					var s stalls
					for range 3 {
						s = append(s, n.killAndTime(t, c.from, c.to, c.addr, c.back, site))
					}
					s.log(t, "kills")
				})
			}
		}
	}
}

// timedBytes is what each transfer moves in a direction.
const timedBytes = 10 << 20

// killAndTime is one kill. It returns the receiver's stall.
func (n *pairNetwork) killAndTime(t *testing.T, from, to *lab.Host, addr netip.Addr, back int64, site []*node) time.Duration {
	t.Helper()
	var tm timers
	c, err := from.Capture("lan0", lab.CaptureConfig{Each: tm.each})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
		From: from.Namespace, To: to.Namespace, Addr: netip.AddrPortFrom(addr, 0), Bytes: timedBytes, Back: back, Congestion: "cubic",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Reached(4 << 20); err != nil {
		t.Fatal(err)
	}
	dead, heir := active(t, site)
	killed := time.Now()
	dead.kill()
	n.moving(t, tr)
	res, err := tr.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	f := heir.ha(t).LastFailover
	t.Logf("stall %v; claim %v after the kill; %s", res.LongestStall.Round(time.Millisecond), f.At.Sub(killed).Round(time.Millisecond), tm.around(killed))
	dead.up()
	n.settled(site)
	return res.LongestStall
}

// timers notes what a sender's kernel sends again, and when it is answered.
type timers struct {
	mu      sync.Mutex
	acks    []moment // that advance
	repeats []moment // segments with payload below the highest number sent
	fresh   []moment // segments with payload above it
	top     uint32
	ack     uint32
	begun   bool
}

// moment is when a number was seen.
type moment struct {
	at  time.Time
	seq uint32
}

func (m *timers) each(p lab.Packet) {
	s, ok := lab.DecodeTCP(p)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case p.Outgoing && s.Len > 1:
		end := s.Seq + uint32(s.Len)
		if m.begun && int32(end-m.top) <= 0 {
			m.repeats = append(m.repeats, moment{p.Time, s.Seq})
			return
		}
		m.begun, m.top = true, end
		m.fresh = append(m.fresh, moment{p.Time, s.Seq})
	case !p.Outgoing && s.Flags&lab.ACK != 0 && m.begun && (m.ack == 0 || int32(s.Ack-m.ack) > 0):
		m.ack = s.Ack
		m.acks = append(m.acks, moment{p.Time, s.Ack})
	}
}

// around describes what happened between the last acknowledgement before the longest
// pause of acknowledgements after a moment, and the next.
func (m *timers) around(after time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var last, next moment
	for i := 1; i < len(m.acks); i++ {
		a, b := m.acks[i-1], m.acks[i]
		if b.at.After(after) && b.at.Sub(a.at) > next.at.Sub(last.at) {
			last, next = a, b
		}
	}
	text := "at the sender, after the last acknowledgement:"
	count := 0
	for _, r := range m.repeats {
		if d := r.at.Sub(last.at); d > 0 && !r.at.After(next.at) && count < 4 {
			what := "repeat of the oldest"
			if r.seq != last.seq {
				what = "repeat of another"
			}
			text += fmt.Sprintf(" %s %v,", what, d.Round(time.Millisecond))
			count++
		}
	}
	for _, r := range m.fresh {
		if d := r.at.Sub(last.at); d > 50*time.Millisecond && !r.at.After(next.at) {
			text += fmt.Sprintf(" new data %v,", d.Round(time.Millisecond))
			break
		}
	}
	return text + fmt.Sprintf(" next acknowledgement %v", next.at.Sub(last.at).Round(time.Millisecond))
}
