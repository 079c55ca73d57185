// Package hostnet is the host's side of a gateway: the TUN device that the
// kernel hands packets to, the addresses and routes that lead there, and the
// checks that say in one line what the host lacks. It runs on Linux only, talks
// to the kernel by ioctl, netlink and /proc/sys, and starts no program.
//
// [Open] gives a TUN [Device] by one of two drivers. "offload" takes and gives
// whole TCP segments of up to 64 KB behind a virtio-net header, and leaves
// checksums to whoever lets the packet out of the machine; "water" is the plain
// one, packet by packet, every packet finished.
//
// [Apply] puts the node's addresses on the device and leads the other sites'
// subnets through it. Behind every such route stands a hold: a blackhole route of
// a worse metric. When the gateway is killed, the device goes and its routes with
// it; the hold stays, and nothing leaks out by the default route.
//
// Why a blackhole, and what it means to a connection while it lasts (measured on
// Linux 6.18, and held by TestHoldKeepsConnections):
//   - Hosts behind the gateway see silence. An established connection waits and
//     goes on; a connection being opened repeats its SYN. An "unreachable"
//     route would answer with ICMP host-unreachable, at which connect fails at
//     once, and would spoil the wake-up that RFC 6069 gives after an outage.
//   - Established sockets of the gateway's own host keep their data, note a soft
//     error, retransmit, and go on when the route and the address are back. A
//     new connect fails at once (EINVAL for blackhole, EHOSTUNREACH for
//     unreachable): neither gives a local connect a pause. A socket that was
//     closed with unsent data may lose it, since Linux does not retransmit an
//     orphan's data past a soft error.
//   - With TUNConfig.Persist the device outlives the process together with its
//     addresses and routes, and packets are dropped in it without a word: even
//     a local connect waits. Hosts that run a database beside their gateway
//     want that.
//
// Everything in this package acts on the network namespace of the calling
// thread. One gateway per namespace: routes are told from other people's by
// their protocol number, [RouteProtocol].
package hostnet
