// Package hostnet is a gateway's own host: the TUN device through which the kernel exchanges
// packets with the gateway, the addresses and routes that lead there, and the checks of what the
// host lacks. It runs on Linux only, uses ioctl, netlink and /proc/sys, and starts no program.
//
// [New] checks the host, opens the device, applies addresses and routes, and returns all of it as a
// [Host]. The device has one of two drivers. "offload" reads and writes whole TCP segments of up to
// 64 KB behind a virtio-net header, and leaves checksums to the host that sends the packet out.
// "water" is the plain one: packet by packet, every checksum finished.
//
// [Apply] puts the node's addresses on the device and routes the other sites' subnets to it.
// Behind every such route stands a hold: a blackhole route of a worse metric. When the gateway
// ends, killed or stopped, the kernel deletes the device and its routes; the hold stays, and
// nothing leaves by the default route. [Hold] puts holds in place without a device, before a start
// that may fail and before the network is up; only [Down] removes them.
//
// Why a blackhole, and what it means to a connection while it lasts (measured on Linux 6.18, and
// held by tests):
//   - Hosts behind the gateway see silence. An established connection waits and
//     resumes; a connection being opened repeats its SYN. An "unreachable"
//     route would answer with ICMP host-unreachable: connect fails at once with
//     EHOSTUNREACH, and the wake-up of RFC 6069 after the outage is spoiled.
//   - Established sockets of the gateway's own host, those bound to the address
//     that goes with the device too, keep their data, retransmit in vain, and resume
//     when route and address are back. A new connect fails at once, with
//     EINVAL (EHOSTUNREACH, were the route an "unreachable" one).
//   - With TUNConfig.Persist the device outlives the process together with its
//     addresses and routes, and drops packets silently while no process reads:
//     even a local connect only waits. A host that runs a database beside its
//     gateway wants that.
//
// Everything in this package acts on the network namespace of the calling thread. Its routes differ
// from those of other programs by their protocol number, [RouteProtocol]; a second gateway in the
// namespace keeps its own, as long as the two lead to different subnets.
package hostnet
