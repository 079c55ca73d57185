package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/gateway/link/linktest"
	"github.com/onewaylink/gw/tests/await"
)

func cutPort(endpoint string) (host, port string, ok bool) {
	i := strings.LastIndexByte(endpoint, ':')
	return endpoint[:i], endpoint[i+1:], i > 0
}

// A stock WireGuard peer, which sends no hello, is up.
func TestStockPeer(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.HelloInterval = 200 * time.Millisecond
	tun := tuntest.NewChannelTUN()
	dev := device.NewDevice(tun.TUN(), conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	t.Cleanup(dev.Close)
	if err := dev.IpcSet(configText(&p.gray)); err != nil {
		t.Fatal(err)
	}
	if err := dev.Up(); err != nil {
		t.Fatal(err)
	}
	red := start(t, p.red)
	red.await("silent", 5*time.Second, func(s PeerState) bool { return s.Up && !s.GW && s.MTU == 1420 && !s.PartialChecksums })
	pkt := packet("10.77.1.10:1000", "10.77.2.10:2000", "to a stock peer")
	red.path.In <- pkt
	timeout := time.After(5 * time.Second)
	for got := []byte(nil); !bytes.Equal(got, pkt); {
		select {
		case got = <-tun.Inbound: // hellos arrive, too
		case <-timeout:
			t.Fatal("packet didn't arrive")
		}
	}
	back := packet("10.77.2.10:2000", "10.77.1.10:1000", "from a stock peer")
	tun.Outbound <- back
	select {
	case got := <-red.path.Out:
		if !bytes.Equal(got, back) {
			t.Errorf("%x", got)
		}
	case <-timeout:
		t.Fatal("answer didn't arrive")
	}
	if s := red.Snapshot()[0]; s.State != hello.Silent {
		t.Errorf("state %v", s.State)
	}
}

func linkSections(subnets byte) []hello.Section {
	return []hello.Section{{Name: "site.red", Digest: [32]byte{subnets}, Attrs: []hello.Attr{
		{Name: "site.red.subnets", Digest: [8]byte{subnets}, Fatal: true},
	}}}
}

// A link that starts with a fatal difference is refused until the difference is gone.
func TestRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.Peers[0].Sections, p.gray.Peers[0].Sections = linkSections(1), linkSections(2)
	gray := start(t, p.gray)
	red := start(t, p.red)
	for _, n := range []*node{red, gray} {
		n.await("refused", 5*time.Second, func(s PeerState) bool { return s.Refused && !s.Up })
		s := n.Snapshot()[0]
		want := []Difference{{Attribute: "site.red.subnets", Kind: "differs", Fatal: true}}
		if s.State != hello.Refused || s.Refused != "site.red.subnets: differs" || len(s.Differences) != 1 || s.Differences[0] != want[0] {
			t.Errorf("%+v", s)
		}
	}
	gray.stop()
	p.gray.Peers[0].Sections = linkSections(1)
	start(t, p.gray)
	red.await("mended", 8*time.Second, isUp)
}

// With a second process that uses red's key, both sides log an error.
func TestDuplicateKey(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.HelloInterval, p.gray.HelloInterval = 200*time.Millisecond, 200*time.Millisecond
	gray := start(t, p.gray)
	first := start(t, p.red)
	first.await("up", 5*time.Second, isUp)
	second := start(t, p.red)
	gray.awaitLog("two processes use the peer's private key", 5*time.Second)
	// The Link looks up a process's endpoint some time after that process's hello.
	await.True(t, "two different endpoints", func() bool {
		got := gray.Snapshot()[0].Duplicate
		return len(got) == 2 && got[0] != got[1]
	})
	timeout := time.After(5 * time.Second)
	for logged := false; !logged; {
		var line string
		select {
		case line = <-first.lines:
		case line = <-second.lines:
		case <-timeout:
			t.Fatal("neither process logged it")
		}
		logged = strings.Contains(line, "another process uses this node's private key")
	}
}

func TestPathFailureEndsTheLink(t *testing.T) {
	await.NoLeaks(t)
	p := newPair(t)
	path := linktest.NewPath(1)
	p.red.Path, p.red.Logger, p.red.TUNMTU = path, testLogger(t, "red-1"), 1420
	l, err := New(p.red)
	if err != nil {
		t.Fatal(err)
	}
	path.Close()
	if err := l.Run(context.Background()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("run: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	await.NoLeaks(t)
	p := newPair(t)
	start(t, p.gray).await("up", 5*time.Second, func(s PeerState) bool { return true })
	p.red.ListenPort = p.port
	p.red.Path, p.red.Logger, p.red.TUNMTU = linktest.NewPath(1), testLogger(t, "red-1"), 1420
	l, err := New(p.red)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(context.Background()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(p.port)) {
		t.Errorf("run: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for name, edit := range map[string]func(c *Config){
		"no key":       func(c *Config) { c.PrivateKey = [32]byte{} },
		"no address":   func(c *Config) { c.Self.Addresses = nil },
		"no path":      func(c *Config) { c.Path = nil },
		"same key":     func(c *Config) { c.Peers = append(c.Peers, c.Peers[0]) },
		"other family": func(c *Config) { c.Peers[0].Addresses = []netip.Addr{netip.MustParseAddr("fd77::1")} },
		"endpoint":     func(c *Config) { c.Peers[0].Endpoint = "nowhere" },
		"tiny MTU":     func(c *Config) { c.TUNMTU = 100 },
	} {
		c := newPair(t).red
		c.Path, c.Logger, c.TUNMTU = linktest.NewPath(1), testLogger(t, "red-1"), 1420
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
