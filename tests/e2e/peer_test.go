package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/onewaylink/gw/tests/lab"
)

// badPeer is a WireGuard peer with gray's own key, and so a valid one, that sends
// whatever IP packets the test gives it, no kernel in between.
type badPeer struct {
	dev *device.Device
	tun *rawTUN
}

// rawTUN is a tun.Device whose packets come from and go to the test.
type rawTUN struct {
	out    chan []byte
	in     func(packet []byte) // called for what the far side sends; must not keep it
	events chan tun.Event
	closed chan struct{}
}

var _ tun.Device = (*rawTUN)(nil)

func (d *rawTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	var first []byte
	select {
	case first = <-d.out:
	case <-d.closed:
		return 0, os.ErrClosed
	}
	sizes[0] = copy(bufs[0][offset:], first)
	n := 1
	for n < len(bufs) {
		select {
		case b := <-d.out:
			sizes[n] = copy(bufs[n][offset:], b)
			n++
		default:
			return n, nil
		}
	}
	return n, nil
}

func (d *rawTUN) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		d.in(b[offset:])
	}
	return len(bufs), nil
}

func (d *rawTUN) Close() error {
	close(d.closed)
	close(d.events)
	return nil
}

func (d *rawTUN) File() *os.File           { return nil }
func (d *rawTUN) MTU() (int, error)        { return 1420, nil }
func (d *rawTUN) Name() (string, error)    { return "bad", nil }
func (d *rawTUN) Events() <-chan tun.Event { return d.events }
func (d *rawTUN) BatchSize() int           { return conn.IdealBatchSize }

// startBadPeer puts the peer in gray's gateway's place. in hears what comes from red.
func (n *network) startBadPeer(t *testing.T, in func([]byte)) *badPeer {
	t.Helper()
	p := &badPeer{tun: &rawTUN{out: make(chan []byte, 1024), in: in, events: make(chan tun.Event), closed: make(chan struct{})}}
	quiet := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	// Its sockets belong to the namespace of the thread that brings it up.
	err := n.Gray.GW().Do(func() error {
		p.dev = device.NewDevice(p.tun, conn.NewDefaultBind(), quiet)
		return errors.Join(p.dev.IpcSet(fmt.Sprintf(
			"private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\n",
			n.gray.key.Hex(), lab.PlainPort, n.red.key.Public().Hex())), p.dev.Up())
	})
	t.Cleanup(p.dev.Close)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// send sends one IP packet, which the peer keeps.
func (p *badPeer) send(b []byte) { p.tun.out <- b }

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
