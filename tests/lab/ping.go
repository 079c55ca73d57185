package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// ICMPError is the error message that a ping got instead of its answer.
type ICMPError struct {
	// From sent it.
	From netip.Addr
	// Type and Code are those of RFC 792 or, if From is IPv6, of RFC 4443.
	Type, Code int
}

func (e *ICMPError) Error() string {
	return fmt.Sprintf("ICMP error type %d code %d from %s", e.Type, e.Code, e.From)
}

// Ping sends one echo request with size bytes of payload, which the kernel
// fragments if it must, and returns the round trip. Without an answer it waits for
// the end of ctx. An ICMP error that quotes the request is an [ICMPError].
func Ping(ctx context.Context, from *Namespace, to netip.Addr, size int) (time.Duration, error) {
	network, proto := "ip4:icmp", unix.IPPROTO_ICMP
	var request icmp.Type = ipv4.ICMPTypeEcho
	if to.Is6() {
		network, proto, request = "ip6:ipv6-icmp", unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest
	}
	c, err := from.ListenPacket(ctx, network, "")
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	echo := &icmp.Echo{ID: rand.IntN(1 << 16), Seq: 1, Data: make([]byte, size)}
	b, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	began := time.Now()
	if _, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	buf := make([]byte, 65536)
	for {
		n, sender, err := c.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return 0, fmt.Errorf("ping %s: no answer: %w", to, err)
		}
		took := time.Since(began)
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil {
			continue // not for us: the socket receives all ICMP
		}
		at, _ := netip.AddrFromSlice(sender.(*net.IPAddr).IP)
		switch body := m.Body.(type) {
		case *icmp.Echo:
			if m.Type != request && body.ID == echo.ID && len(body.Data) == size {
				return took, nil
			}
		default:
			// All errors quote the packet from the fifth byte of the body on.
			if n > 8 && quotes(buf[8:n], echo.ID) {
				return 0, fmt.Errorf("ping %s: %w", to, &ICMPError{From: at.Unmap(), Type: int(buf[0]), Code: int(buf[1])})
			}
		}
	}
}

// quotes reports whether an IP packet is the echo request with an id.
func quotes(b []byte, id int) bool {
	at := 40
	if b[0]>>4 == 4 {
		at = int(b[0]&15) * 4
	}
	return len(b) >= at+6 && int(binary.BigEndian.Uint16(b[at+4:])) == id
}

// SendIP sends a whole IP packet as it is, with whatever source address it
// claims, by the namespace's routes. The kernel fills in IPv4's length and header
// checksum, no transport checksum.
func (n *Namespace) SendIP(packet []byte) error {
	family, sa := unix.AF_INET, unix.Sockaddr(nil)
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		sa = &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
	case len(packet) >= 40 && packet[0]>>4 == 6:
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])}
	default:
		return fmt.Errorf("%s: send raw: %d bytes are not an IP packet", n.name, len(packet))
	}
	return n.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("send raw: %w", err)
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, packet, 0, sa); err != nil {
			return fmt.Errorf("send raw: %w", err)
		}
		return nil
	})
}
