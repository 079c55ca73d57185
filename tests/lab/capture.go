package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// CaptureConfig sets what a capture does with packets.
type CaptureConfig struct {
	// Each is called for every packet, in order, from one goroutine.
	Each func(Packet)
	// SnapLen is how many bytes are kept of each packet; 0 is 256, which is enough
	// for all headers.
	SnapLen int
	// PCAP also writes the packets to a file in the lab's log directory.
	PCAP bool
}

// Packet is an IP packet that a capture has seen.
type Packet struct {
	// Time is the kernel's.
	Time time.Time
	// Outgoing means that this namespace sent it.
	Outgoing bool
	// Data starts with the IP header and may be cut short. It is valid during the call only.
	Data []byte
	// Len is the packet's full length in bytes. It exceeds the MTU where the
	// kernel has left the cutting to the device.
	Len int
}

// Capture watches an interface.
type Capture struct {
	// Path is the pcap file, if there is one. It goes with the lab.
	Path string

	ns   *Namespace
	cfg  CaptureConfig
	fd   int
	wake int
	file *os.File
	once sync.Once
	done chan struct{}
	err  error
	// missed is what the kernel dropped because the capture was slow.
	missed uint32
}

// captureBuffer is what may wait in the capture's socket, in bytes.
const captureBuffer = 64 << 20

// Capture starts to watch IP packets on an interface, both ways. The caller
// calls Stop, or the lab's end makes do.
func (n *Namespace) Capture(ifname string, cfg CaptureConfig) (*Capture, error) {
	if cfg.SnapLen == 0 {
		cfg.SnapLen = 256
	}
	c := &Capture{ns: n, cfg: cfg, done: make(chan struct{}), fd: -1, wake: -1}
	if err := c.open(ifname); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: capture on %s: %w", n.name, ifname, err), c.close())
	}
	go func() {
		defer close(c.done)
		c.err = c.run()
	}()
	n.mu.Lock()
	n.captures = append(n.captures, c)
	n.mu.Unlock()
	return c, nil
}

func (c *Capture) open(ifname string) (err error) {
	link, err := c.ns.link.LinkByName(ifname)
	if err != nil {
		return err
	}
	if c.cfg.PCAP {
		c.Path = filepath.Join(c.ns.logDir, fmt.Sprintf("%s-%s-%d.pcap", c.ns.name, ifname, time.Now().UnixNano()))
		if c.file, err = os.Create(c.Path); err != nil {
			return err
		}
		if _, err := c.file.Write(pcapHeader(c.cfg.SnapLen)); err != nil {
			return err
		}
	}
	if c.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	// SOCK_DGRAM gives the IP packet on every kind of device. The socket sees
	// nothing before bind, because its protocol is 0.
	if err := c.ns.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	}); err != nil {
		return err
	}
	// The filter accepts everything and cuts it to the snap length.
	ret := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(c.cfg.SnapLen)}}
	return errors.Join(
		unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &ret[0]}),
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		c.awaitStamps(),
		// The full length arrives with each packet, as the filter hides it.
		unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}),
	)
}

// awaitStamps waits until packets get their time when they pass. The first socket
// that asks for times makes the kernel begin with it, but some moments later, from a
// work queue (net_enable_timestamp); a packet that passes before gets the time at
// which it is read, and may so seem to follow its effect. A datagram over
// loopback shows which of the two it is.
func (c *Capture) awaitStamps() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pc, err := c.ns.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer pc.Close()
	conn := pc.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := WithFD(raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return err
	}
	oob := make([]byte, 256)
	return Until(ctx, "packets that get their time when they pass", func() (bool, error) {
		if _, err := conn.WriteTo(nil, conn.LocalAddr()); err != nil {
			return false, err
		}
		sent := time.Now()
		_, n, _, _, err := conn.ReadMsgUDP(nil, oob)
		at, _ := ancillary(oob[:n])
		return !at.After(sent), err
	})
}

func (c *Capture) close() error {
	var errs []error
	for _, fd := range []int{c.fd, c.wake} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	if c.file != nil {
		errs = append(errs, c.file.Close())
	}
	return errors.Join(errs...)
}

// Stop reads what has arrived and ends the capture. It returns an error if the
// capture missed packets, because it can then judge nothing.
func (c *Capture) Stop() error {
	c.once.Do(func() {
		var one = [8]byte{1}
		_, _ = unix.Write(c.wake, one[:]) // a fresh eventfd takes it
		<-c.done
		c.err = errors.Join(c.err, c.close())
		if c.missed > 0 {
			c.err = errors.Join(c.err, fmt.Errorf("%s: the capture missed %d packets", c.ns.name, c.missed))
		}
	})
	return c.err
}

func (c *Capture) run() error {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.wake), Events: unix.POLLIN}}
	data, oob := make([]byte, c.cfg.SnapLen), make([]byte, 256)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("capture: %w", err)
		}
		for {
			n, oobn, _, from, err := unix.Recvmsg(c.fd, data, oob, 0)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
				continue // the interface went down; it may come up again
			}
			if err != nil {
				return fmt.Errorf("capture: %w", err)
			}
			sa, ok := from.(*unix.SockaddrLinklayer)
			if !ok || sa.Protocol != htons(unix.ETH_P_IP) && sa.Protocol != htons(unix.ETH_P_IPV6) {
				continue
			}
			p := Packet{Outgoing: sa.Pkttype == unix.PACKET_OUTGOING, Data: data[:n]}
			p.Time, p.Len = ancillary(oob[:oobn])
			if err := c.take(p); err != nil {
				return err
			}
		}
		if fds[1].Revents != 0 {
			// What was sent before Stop was called has been read by now.
			st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil {
				return fmt.Errorf("capture: statistics: %w", err)
			}
			c.missed = st.Drops
			return nil
		}
	}
}

func (c *Capture) take(p Packet) error {
	if c.file != nil {
		if _, err := c.file.Write(pcapRecord(p)); err != nil {
			return fmt.Errorf("capture: %w", err)
		}
	}
	if c.cfg.Each != nil {
		c.cfg.Each(p)
	}
	return nil
}

// ancillary reads the time and the full length out of the control messages.
func ancillary(oob []byte) (at time.Time, length int) {
	for len(oob) > 0 {
		h, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return at, length
		}
		oob = rest
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(body) >= 16:
			at = time.Unix(int64(binary.NativeEndian.Uint64(body)), int64(binary.NativeEndian.Uint64(body[8:])))
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(body) >= 8:
			length = int(binary.NativeEndian.Uint32(body[4:])) // tpacket_auxdata.tp_len, packet(7)
		}
	}
	return at, length
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// linktypeRaw is LINKTYPE_RAW: the packet starts with the IP header.
const linktypeRaw = 101

// pcapHeader opens a file of the classic format with nanoseconds
// (draft-ietf-opsawg-pcap section 4).
func pcapHeader(snapLen int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(snapLen))
	return binary.LittleEndian.AppendUint32(b, linktypeRaw)
}

// pcapRecord is a packet in the file (section 5).
func pcapRecord(p Packet) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.Time.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Time.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Len))
	return append(b, p.Data...)
}
