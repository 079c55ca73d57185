package hostnet

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel queues packets for a TUN's reader that is late, and drops those beyond the queue: it
// starts with room for 500, which a burst of single packets at 10 Gbit/s fills in half a
// millisecond. No socket holds its own back, since the kernel counts a packet as sent when it waits
// here.
//
// 5,000 are what eighty connections over 40 ms have under way while the reader waits for a
// processor; then nothing is dropped. Each of them may be a segment of 64 KB, and the reader may
// stand still for long, so together they are at most an eighth of the memory.
const (
	minQueue = 1000
	maxQueue = 5000
)

// queueLen is how many packets may wait on a host with so much memory, in bytes.
func queueLen(memory uint64) int {
	return int(min(max(memory/8/MaxPacket, minQueue), maxQueue))
}

// memory is that of the machine, in bytes.
func memory() uint64 {
	var s unix.Sysinfo_t
	_ = unix.Sysinfo(&s) // it fails for a bad pointer only
	return uint64(s.Totalram) * uint64(s.Unit)
}

// missed returns how many packets the kernel has dropped since the TUN device of that name was
// made, as they were more than may wait for its reader.
func missed(name string) (uint64, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("statistics of %s: %w", name, err)
	}
	if s := l.Attrs().Statistics; s != nil {
		return s.TxDropped, nil
	}
	return 0, nil
}
