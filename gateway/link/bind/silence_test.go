package bind_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/bind/carriertest"
)

// firewall stands between red and gray. It forgets a flow in which red has sent nothing for
// firewallForgets (others keep a flow also while only gray sends), and counts what would begin one
// from gray. While the path is cut, it is cut on red's side.
type firewall struct {
	mu       sync.Mutex
	cut      bool
	seen     time.Time // red's latest packet
	fromGray int
	began    int // by gray
}

// firewallForgets is what the shortest of common timeouts is: nf_conntrack_udp_timeout.
const firewallForgets = 30 * time.Second

func (f *firewall) pass(fromGray bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if fromGray {
		f.fromGray++
		if f.seen.IsZero() || now.Sub(f.seen) >= firewallForgets {
			f.began++
			return false
		}
		return !f.cut
	}
	if !f.cut {
		f.seen = now
	}
	return !f.cut
}

func (f *firewall) set(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
}

func (f *firewall) counts() (fromGray, began int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fromGray, f.began
}

// guarded is a Carrier behind the firewall.
type guarded struct {
	bind.Carrier
	firewall *firewall
	gray     bool
}

func (g *guarded) Send(bufs [][]byte, to conn.Endpoint) error {
	for _, m := range bufs {
		if !g.firewall.pass(g.gray) {
			continue
		}
		if err := g.Carrier.Send([][]byte{m}, to); err != nil {
			return err
		}
	}
	return nil
}

// silent is red and gray with a firewall between them, in virtual time.
type silent struct {
	*firewall
	red, gray         *node
	redBind, grayBind *bind.Bind
}

func newSilent(t *testing.T) *silent {
	t.Helper()
	memory := carriertest.NewNetwork(nil)
	s := &silent{firewall: &firewall{}}
	hosts := []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("203.0.113.10")}
	i := 0
	n := &network{carrier: func() bind.Carrier {
		c := &guarded{memory.Carrier(hosts[i]), s.firewall, i == 1}
		i++
		return c
	}}
	s.redBind, s.grayBind = pair(t, n, nil)
	s.red, s.gray = start(t, 1, s.redBind, 0), start(t, 2, s.grayBind, 0)
	s.gray.peer(t, s.red, "")
	s.red.peer(t, s.gray, fmt.Sprintf("%s:%d", hosts[1], s.gray.port))
	return s
}

// send puts a packet into a node's tunnel each 100 ms for a time.
func (s *silent) send(from, to *node, d time.Duration) {
	for range d / (100 * time.Millisecond) {
		from.tun.Outbound <- tuntest.Ping(to.addr, from.addr)
		time.Sleep(100 * time.Millisecond)
	}
}

// drain takes what arrives at the nodes, until the test ends.
func drain(t *testing.T, nodes ...*node) {
	quit := make(chan struct{})
	t.Cleanup(func() { close(quit) })
	for _, n := range nodes {
		go func() {
			for {
				select {
				case <-n.tun.Inbound:
				case <-quit:
					return
				}
			}
		}()
	}
}

// TestSilence: gray begins no flow at the firewall, however long the path is cut and whatever gray
// has to send: data, keepalives, handshakes. When red has returned gray sends again.
func TestSilence(t *testing.T) {
	for _, outage := range []time.Duration{20 * time.Second, 27 * time.Second, 31 * time.Second, 90 * time.Second, 10 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSilent(t)
				exchange(t, s.red, s.gray)
				exchange(t, s.gray, s.red)
				s.set(true)
				s.send(s.gray, s.red, outage)
				sent, began := s.counts()
				if began != 0 {
					t.Errorf("gray has begun a flow with %d packets of %d", began, sent)
				}
				if drops := s.grayBind.Stats().Drops[bind.SendSilent]; outage > firewallForgets && drops == 0 {
					t.Error("gray's Bind has dropped nothing")
				} else if outage < 28*time.Second && drops != 0 {
					t.Errorf("gray's Bind has dropped %d datagrams within %v", drops, outage)
				}
				s.set(false)
				drain(t, s.red)
				exchange(t, s.red, s.gray)
				drain(t, s.gray)
				s.send(s.gray, s.red, 5*time.Second)
				after, began := s.counts()
				if after-sent < 40 || began != 0 {
					t.Errorf("after the return gray has sent %d datagrams, and begun a flow with %d", after-sent, began)
				}
			})
		})
	}
}

// TestSilenceKeepalive: a keepalive each 25 s, and nothing else, lets gray send at any time.
func TestSilenceKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSilent(t)
		s.red.set(t, fmt.Sprintf("public_key=%x\npersistent_keepalive_interval=25\n", s.gray.public))
		exchange(t, s.red, s.gray)
		for range 100 {
			time.Sleep(24900 * time.Millisecond)
			exchange(t, s.gray, s.red)
		}
		if _, began := s.counts(); began != 0 || s.grayBind.Stats().Drops[bind.SendSilent] != 0 {
			t.Errorf("gray has begun %d flows and dropped %v", began, s.grayBind.Stats().Drops)
		}
	})
}

// TestSilenceForged: datagrams that name no session of gray's, from red's address, permit nothing.
func TestSilenceForged(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		gray, receive, port := opened(t, n, bind.Config{Peers: []bind.Peer{{DialsIn: true}}})
		red, _, _ := opened(t, n, bind.Config{Peers: []bind.Peer{{MayDial: true}}})
		forged, real := transport(64, testSession+1), transport(64, testSession)
		if err := red.Send([][]byte{forged}, endpoint(t, red, n.at(port))); err != nil {
			t.Fatal(err)
		}
		in := newInbox(8)
		_, from := in.fill(t, receive, 1)
		if err := gray.Send([][]byte{real}, from); err != nil {
			t.Fatal(err)
		}
		if d := gray.Stats().Drops[bind.SendSilent]; d != 1 {
			t.Errorf("after a forged datagram %d are dropped, want 1", d)
		}
		if err := red.Send([][]byte{real}, endpoint(t, red, n.at(port))); err != nil {
			t.Fatal(err)
		}
		_, from = in.fill(t, receive, 1)
		if err := gray.Send([][]byte{real}, from); err != nil {
			t.Fatal(err)
		}
		if d := gray.Stats().Drops[bind.SendSilent]; d != 1 {
			t.Errorf("after red's datagram %d are dropped, want the one before", d)
		}
		// The source stays: the firewall knows no other.
		ep := from.(bind.Endpoint)
		src := ep.SrcToString()
		ep.ClearSrc()
		if !ep.Session().Answers() || ep.SrcToString() != src {
			t.Errorf("source %q became %q", src, ep.SrcToString())
		}
	})
}

// TestSilenceDialler: a node that one peer dials may send to another, which it dials itself, as
// soon as that has answered, also when the answer is late.
func TestSilenceDialler(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		_, key := newKey(t, 1)
		_, dialled := newKey(t, 2)
		red, receive, port := opened(t, n, bind.Config{PublicKey: key, Peers: []bind.Peer{{PublicKey: dialled, MayDial: true}, {DialsIn: true}}})
		gray, grayReceive, grayPort := opened(t, n, bind.Config{PublicKey: dialled, Peers: []bind.Peer{{PublicKey: key, DialsIn: true}}})
		const index = 11
		if err := red.Send([][]byte{withMACTo(initiation(index), dialled)}, endpoint(t, red, n.at(grayPort))); err != nil {
			t.Fatal(err)
		}
		newInbox(8).fill(t, grayReceive, 1)
		red.Quiet(dialled, 0) // the initiation no longer waits for an answer
		if err := gray.Send([][]byte{withMACTo(response(5, index), key)}, endpoint(t, gray, n.at(port))); err != nil {
			t.Fatal(err)
		}
		_, from := newInbox(8).fill(t, receive, 1)
		if err := red.Send([][]byte{transport(64, 5)}, from); err != nil {
			t.Fatal(err)
		}
		if d := red.Stats().Drops[bind.SendSilent]; d != 0 {
			t.Errorf("%d dropped as silent", d)
		}
	})
}
