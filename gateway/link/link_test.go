package link

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
)

// chanStreams gives the test what arrives for the control streams.
type chanStreams chan []byte

func (c chanStreams) Inject(pkt []byte) { c <- append([]byte(nil), pkt...) }

func TestTwoNodesTalk(t *testing.T) {
	for _, tt := range []struct {
		name                         string
		edit                         func(p *pair)
		redHost, grayHost, redStream string
		grayStream                   string
	}{
		{"IPv4", func(*pair) {}, "10.77.1.10:1000", "10.77.2.10:2000", "10.77.1.1:40000", "10.77.2.1:9771"},
		{"IPv6", sixth, "[fd77:1::10]:1000", "[fd77:2::10]:2000", "[fd77:1::1]:40000", "[fd77:2::1]:9771"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			await.NoLeaks(t)
			p := newPair(t)
			tt.edit(p)
			streams := make(chanStreams, 1)
			gray := start(t, p.gray, func(l *Link) { l.HandleStreams(streams) })
			red := start(t, p.red)
			t.Logf("red up after %v", red.await("red up", 5*time.Second, isUp))
			gray.await("gray up", 5*time.Second, isUp)
			full := func(s PeerState) bool { return s.MTU == 1420 && s.GW && s.PartialChecksums }
			red.await("mtu", 5*time.Second, full)
			gray.await("mtu", 5*time.Second, full)
			carries(t, red, gray, packet(tt.redHost, tt.grayHost, "to gray"))
			carries(t, gray, red, packet(tt.grayHost, tt.redHost, "to red"))

			stream := tcp(tt.redStream, tt.grayStream)
			red.SendPacket(stream)
			select {
			case got := <-streams:
				if !bytes.Equal(got, stream) {
					t.Errorf("stream packet %x", got)
				}
			case <-time.After(5 * time.Second):
				t.Error("the control stream's packet didn't arrive")
			}

			got := red.Snapshot()[0]
			if got.Node != "gray-1" || got.Version != "test" || got.RTT <= 0 || got.LastHandshake.IsZero() ||
				!got.Initiator || got.TxBytes == 0 || got.Endpoint != p.red.Peers[0].Endpoint || got.Since.IsZero() {
				t.Errorf("%+v", got)
			}
			if gray.ListenPort() != p.port {
				t.Errorf("port %d, want %d", gray.ListenPort(), p.port)
			}
		})
	}
}

// sixth makes a pair that speaks IPv6 inside and outside.
func sixth(p *pair) {
	red, gray := netip.MustParseAddr("fd77:1::1"), netip.MustParseAddr("fd77:2::1")
	p.red.Self.Addresses, p.gray.Self.Addresses = []netip.Addr{red}, []netip.Addr{gray}
	p.red.Peers[0].Addresses, p.gray.Peers[0].Addresses = []netip.Addr{gray}, []netip.Addr{red}
	p.red.Peers[0].Subnets = []netip.Prefix{netip.MustParsePrefix("fd77:2::/64")}
	p.gray.Peers[0].Subnets = []netip.Prefix{netip.MustParsePrefix("fd77:1::/64")}
	p.red.Peers[0].Endpoint = fmt.Sprintf("[::1]:%d", p.port)
}

func TestConfigText(t *testing.T) {
	p := newPair(t)
	p.red.Peers[0].Keepalive = 1500 * time.Millisecond
	for _, tt := range []struct {
		c    *Config
		want []string
		not  string
	}{
		{&p.red, []string{"listen_port=0\n", "persistent_keepalive_interval=2\n", "allowed_ip=10.77.2.1/32\n", "allowed_ip=10.77.2.0/24\n"}, "endpoint"},
		{&p.gray, []string{fmt.Sprintf("listen_port=%d\n", p.port), "allowed_ip=10.77.1.1/32\n"}, "keepalive"},
	} {
		got := configText(tt.c)
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is missing in\n%s", w, got)
			}
		}
		if strings.Contains(got, tt.not) || strings.Contains(got, "replace") {
			t.Errorf("unwanted in\n%s", got)
		}
	}
}
