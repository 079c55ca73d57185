package attacker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// queueLen is how many packets wait for WireGuard.
const queueLen = 1024

// TunnelConfig holds a Tunnel's identity and its peers.
type TunnelConfig struct {
	PrivateKey [32]byte
	ListenPort uint16
	Peers      []TunnelPeer
	// Received is called with each IP packet that a peer sent. It must not keep the packet.
	// WireGuard calls it from one goroutine for each peer.
	Received func(packet []byte)
}

// TunnelPeer is a victim: its key and the prefixes that may be its source.
type TunnelPeer struct {
	PublicKey [32]byte
	Allowed   []string
}

// Tunnel is a WireGuard peer that sends any IP packet, with no kernel in between.
type Tunnel struct {
	dev    *device.Device
	out    chan []byte
	in     func(packet []byte)
	events chan tun.Event
	closed chan struct{}
}

// OpenTunnel brings a Tunnel up. enter calls its argument on a thread of the namespace to which
// the UDP sockets belong.
func OpenTunnel(enter func(func() error) error, cfg TunnelConfig) (*Tunnel, error) {
	t := &Tunnel{
		out: make(chan []byte, queueLen), in: cfg.Received,
		events: make(chan tun.Event), closed: make(chan struct{}),
	}
	var uapi strings.Builder
	fmt.Fprintf(&uapi, "private_key=%s\nlisten_port=%d\n", hex.EncodeToString(cfg.PrivateKey[:]), cfg.ListenPort)
	for _, p := range cfg.Peers {
		fmt.Fprintf(&uapi, "public_key=%s\n", hex.EncodeToString(p.PublicKey[:]))
		for _, a := range p.Allowed {
			fmt.Fprintf(&uapi, "allowed_ip=%s\n", a)
		}
	}
	quiet := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	err := enter(func() error {
		t.dev = device.NewDevice((*tunDevice)(t), conn.NewDefaultBind(), quiet)
		return errors.Join(t.dev.IpcSet(uapi.String()), t.dev.Up())
	})
	if err != nil {
		if t.dev != nil {
			t.dev.Close()
		}
		return nil, fmt.Errorf("open the attacker's tunnel: %w", err)
	}
	return t, nil
}

// Send queues one IP packet, which the Tunnel keeps. It waits while the queue is full.
func (t *Tunnel) Send(packet []byte) {
	select {
	case t.out <- packet:
	case <-t.closed:
	}
}

// Close ends the sessions. Send does not block after it.
func (t *Tunnel) Close() { t.dev.Close() }

// tunDevice is the Tunnel as WireGuard sees it.
type tunDevice Tunnel

var _ tun.Device = (*tunDevice)(nil)

func (d *tunDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
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

func (d *tunDevice) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		d.in(b[offset:])
	}
	return len(bufs), nil
}

func (d *tunDevice) Close() error {
	close(d.closed)
	close(d.events)
	return nil
}

func (d *tunDevice) File() *os.File           { return nil }
func (d *tunDevice) MTU() (int, error)        { return 1420, nil }
func (d *tunDevice) Name() (string, error)    { return "attacker", nil }
func (d *tunDevice) Events() <-chan tun.Event { return d.events }
func (d *tunDevice) BatchSize() int           { return conn.IdealBatchSize }
