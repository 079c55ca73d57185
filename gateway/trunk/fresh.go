package trunk

import (
	"time"

	"golang.org/x/sys/unix"
)

// begin is called when somebody takes the connection, and rtt is the round trip to the
// other node as it was seen last, or 0. What bbr knows of a way is outdated for it after
// ten seconds: it then lets four packets at a time through for 200 ms, to find out how
// long the way is now (PROBE_RTT). A connection that has waited has done without that
// long enough, unless the way really has changed.
func (c *Conn) begin(rtt time.Duration) {
	if c.fits(rtt) {
		c.renew()
	}
	c.used.Store(true)
}

// fits reports whether the connection was made on the way as it is.
func (c *Conn) fits(rtt time.Duration) bool {
	info, err := c.tcpInfo()
	return err == nil && !isLong(rtt, sampled(info.Min_rtt))
}

// renew has bbr begin anew, with what TCP knows of the way.
func (c *Conn) renew() {
	const other = "reno" // which every kernel has
	_ = c.raw.Control(func(fd uintptr) {
		name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err != nil || name != congestion {
			return
		}
		// Setting what is set already changes nothing.
		if unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, other) == nil {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
		}
	})
}
