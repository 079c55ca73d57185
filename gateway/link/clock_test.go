package link

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
)

// record keeps red's first initiation, and lets all pass.
type record struct {
	mu         sync.Mutex
	initiation []byte
}

func (r *record) pass(fromRed bool, b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fromRed && b[0] == 1 && r.initiation == nil {
		r.initiation = bytes.Clone(b)
	}
	return true
}

// send sends the initiation to gray, from another port, and returns where an answer arrives.
func (r *record) send(t *testing.T, p *pair) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(p.port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := c.Write(r.initiation); err != nil {
		t.Fatal(err)
	}
	return c
}

// forget has a node do what it does when the peer has asked for it.
func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[0].forgetAt = 0
	n.renewed <- struct{}{}
}

// TestReplays: gray counts a handshake that it refuses as a replay, and names the cause while the
// link is down. After it has forgotten the peer's time it accepts one.
func TestReplays(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newProxy(t, p)
	var r record
	x.let(r.pass)
	gray := start(t, p.gray)
	red := start(t, p.red)
	gray.await("up", 5*time.Second, isUp)
	red.await("up", 5*time.Second, isUp)
	seen := func() PeerStatus { return gray.Snapshot()[0] }
	r.send(t, p)
	await.True(t, "the replay is counted", func() bool { return seen().Replays == 1 })
	if seen().SetBack {
		t.Error("a replay to a link that is up counts as a clock set back")
	}
	red.stop()
	gray.await("down", 10*time.Second, isDown)
	r.send(t, p)
	await.True(t, "the replays keep the link down", func() bool { return seen().SetBack })
	gray.awaitLog("refused as replays", 5*time.Second)
	gray.forget()
	gray.awaitLog("clock was set back", 5*time.Second)
	await.True(t, "the handshake's time is forgotten", func() bool {
		c := r.send(t, p)
		if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 256)
		n, err := c.Read(answer)
		return err == nil && n == 92 && answer[0] == 2
	})
}

// TestClockSetBack: red's clock is set back by an hour. While the session lasts, red asks gray to
// forget the time of its last handshake, and renews the session at once.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	gray := start(t, p.gray)
	red := start(t, p.red)
	gray.await("up", 5*time.Second, isUp)
	red.await("up", 5*time.Second, isUp)
	subnets := p.red.Peers[0].Subnets
	if err := red.MoveSubnets("gray-1", subnets); err != nil {
		t.Fatal(err)
	}
	before := red.Snapshot()[0].LastHandshake
	red.mu.Lock()
	red.peers[0].clock.used(time.Now().Add(time.Hour)) // as if the latest handshake had been ahead
	red.mu.Unlock()
	red.awaitLog("accepts handshakes of this node's present time", 5*time.Second)
	began := time.Now()
	await.True(t, "the session is renewed", func() bool { return red.Snapshot()[0].LastHandshake.After(before) })
	t.Logf("renewed after %v", time.Since(began).Round(time.Millisecond))
	await.True(t, "the clock is no longer behind", func() bool { return red.Snapshot()[0].ClockBehind == 0 })
	red.await("up", 5*time.Second, isUp)
	carries(t, red, gray, packet("10.77.1.10:1000", "10.77.2.10:2000", "to gray"))
	carries(t, gray, red, packet("10.77.2.10:2000", "10.77.1.10:1000", "to red"))
	if n := gray.Snapshot()[0].Replays; n != 0 {
		t.Errorf("gray has refused %d handshakes", n)
	}
}

// TestHandshakeTimes: the time of the latest handshake outlives the process. One that starts with a
// clock before it names the cause, until a handshake succeeds.
func TestHandshakeTimes(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.StateDir, p.gray.StateDir = t.TempDir(), t.TempDir()
	path := filepath.Join(p.red.StateDir, timesName)
	stored := func() (at time.Time) {
		b, err := os.ReadFile(path)
		if err != nil {
			return at
		}
		node, text, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
		if at, err = time.Parse(time.RFC3339Nano, text); err != nil || node != "gray-1" {
			t.Errorf("stored %q: %v", b, err)
		}
		return at
	}
	gray := start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	await.True(t, "the time is stored", func() bool { return stored().Equal(red.Snapshot()[0].LastHandshake) })
	if files, err := os.ReadDir(p.gray.StateDir); err != nil || len(files) != 0 {
		t.Errorf("gray, which dials nobody, has stored %v, %v", files, err)
	}
	red.stop()
	gray.stop() // it forgets red's handshakes
	if err := writeTimes(path, map[string]time.Time{"gray-1": time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	red = start(t, p.red)
	red.awaitLog("wall clock runs behind the last handshake", 5*time.Second)
	if behind := red.Snapshot()[0].ClockBehind; behind < 50*time.Minute {
		t.Errorf("behind by %v, want an hour", behind)
	}
	start(t, p.gray)
	red.await("up", 10*time.Second, isUp)
	await.True(t, "the clock is right for the peer", func() bool { return red.Snapshot()[0].ClockBehind == 0 })
	await.True(t, "the time is corrected", func() bool { return stored().Before(time.Now()) })
}
