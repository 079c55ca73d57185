package e2e

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/tests/attacker"
	"github.com/onewaylink/gw/tests/lab"
)

// startBadPeer puts a WireGuard peer with gray's own key in the place of gray's gateway. It sends
// the IP packets that the test gives it, with no kernel in between, and calls in with those that
// red sends.
func (n *network) startBadPeer(t *testing.T, in func([]byte)) *attacker.Tunnel {
	t.Helper()
	tunnel, err := attacker.OpenTunnel(n.Gray.GW().Do, attacker.TunnelConfig{
		PrivateKey: n.gray.key, ListenPort: lab.PlainPort, Received: in,
		Peers: []attacker.TunnelPeer{{PublicKey: n.red.key.Public(), Allowed: []string{"0.0.0.0/0", "::/0"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tunnel.Close)
	return tunnel
}

// udp and tcp are packets with all checksums right.
func udp(src, dst netip.AddrPort, payload string) []byte {
	return finish4(lab.UDPPacket(src, dst, []byte(payload)))
}

func tcp(src, dst netip.AddrPort, flags uint8) []byte {
	return finish4(lab.TCPPacket(lab.Segment{Src: src, Dst: dst, Seq: 1, Ack: 1, Flags: flags, Window: 1000}, nil))
}

// finish4 writes the checksum of an IPv4 header (RFC 791 section 3.1).
func finish4(b []byte) []byte {
	if b[0]>>4 != 4 {
		return b
	}
	b[10], b[11] = 0, 0
	sum := 0
	for i := 0; i+1 < min(int(b[0]&15)*4, len(b)); i += 2 {
		sum += int(b[i])<<8 | int(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[10], b[11] = byte(^sum>>8), byte(^sum)
	return b
}
