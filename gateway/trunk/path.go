package trunk

import (
	"time"

	"golang.org/x/sys/unix"
)

// Path is what the kernel knows of the way to the other end.
type Path struct {
	// RTT is the smoothed round trip. MinRTT is the least one that was seen: of about
	// the last ten seconds with bbr, otherwise of five minutes.
	RTT, MinRTT time.Duration
	// Bandwidth is what bbr takes the way to carry, in bytes per second, also while
	// little is sent; 0 without bbr.
	Bandwidth uint64
	// DeliveryRate is what was last seen to arrive, in bytes per second. A sender
	// that had little to say has seen little.
	DeliveryRate uint64
	// Pace is what the connection may send, in bytes per second, because others share
	// the way; 0 is no bound.
	Pace uint64
	// Window is the congestion window in bytes.
	Window int
	// Queued are bytes that the other end has not acknowledged, Unsent those of them
	// that have not been sent.
	Queued, Unsent int
	// Segments counts segments sent with payload, Retransmits those sent again.
	Segments, Retransmits uint64
	// Congestion is the name of the congestion control.
	Congestion string
}

// Path asks the kernel. It fails once the connection is closed.
func (c *Conn) Path() (p Path, err error) {
	cerr := c.raw.Control(func(fd uintptr) { p, err = pathOf(int(fd)) })
	if cerr != nil {
		err = cerr
	}
	p.Pace = c.pace.Load()
	return p, err
}

func pathOf(fd int) (Path, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Path{}, wrapSyscall("get TCP_INFO", err)
	}
	queued, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return Path{}, wrapSyscall("get SIOCOUTQ", err)
	}
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return Path{}, wrapSyscall("get TCP_CONGESTION", err)
	}
	p := Path{
		RTT:          time.Duration(info.Rtt) * time.Microsecond,
		DeliveryRate: info.Delivery_rate,
		Window:       int(info.Snd_cwnd) * int(info.Snd_mss),
		Queued:       queued, Unsent: int(info.Notsent_bytes),
		Segments:    uint64(info.Data_segs_out),
		Retransmits: uint64(info.Total_retrans),
		Congestion:  name,
	}
	p.MinRTT = sampled(info.Min_rtt)
	if name == congestion {
		var least time.Duration
		p.Bandwidth, least = bbrOf(fd)
		// What TCP itself remembers for minutes is wrong once the way has become longer.
		if least > 0 {
			p.MinRTT = least
		}
	}
	return p, nil
}

// tcpInfo asks the kernel for TCP_INFO alone. It fails once the connection has ended.
func (c *Conn) tcpInfo() (info *unix.TCPInfo, err error) {
	cerr := c.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if cerr != nil {
		err = cerr
	}
	return info, err
}

// sampled is a least round trip as the kernel tells it, in microseconds: ~0 before the
// first sample, for which it is 0.
func sampled(us uint32) time.Duration {
	if us == ^uint32(0) {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// bbrOf returns what bbr takes the way of a socket to carry, in bytes per second, and
// the least round trip that it knows; 0 for what it does not. The socket has to have bbr:
// others may say something else by the same option.
func bbrOf(fd int) (bandwidth uint64, least time.Duration) {
	info, err := unix.GetsockoptTCPCCBBRInfo(fd, unix.IPPROTO_TCP, unix.TCP_CC_INFO)
	if err != nil {
		return 0, 0
	}
	return uint64(info.Bw_hi)<<32 | uint64(info.Bw_lo), sampled(info.Min_rtt)
}
