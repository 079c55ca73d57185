package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States of a TCP connection (linux/netfilter/nf_conntrack_tcp.h): in the first two only a SYN was
// seen.
const (
	tcpSynSent  = 1 // TCP_CONNTRACK_SYN_SENT
	tcpSynSent2 = 9 // TCP_CONNTRACK_SYN_SENT2

	tcpLastAck = 6 // TCP_CONNTRACK_LAST_ACK, the first of those in which both ends have closed
	tcpClose   = 8 // TCP_CONNTRACK_CLOSE, the last of them
)

// liberal is IP_CT_TCP_FLAG_BE_LIBERAL of the same header.
const liberal = 0x08

// A tuple holds the addresses of the packets of one direction.
type tuple struct{ src, dst netip.Addr }

// An entry is a connection in the kernel's table.
type entry struct {
	family byte
	proto  byte
	// orig holds the addresses of the first packet, reply those of the packets that answer it.
	orig, reply tuple
	// Of TCP: the state, and whether neither direction is judged by windows.
	state   byte
	liberal bool
	// Attributes as the kernel wrote them, which name the entry.
	key, zone []byte
}

// halfOpen reports whether only the SYN of a TCP connection was seen.
func (e *entry) halfOpen() bool { return e.state == tcpSynSent || e.state == tcpSynSent2 }

// ended reports whether both ends have closed a TCP connection, which the kernel keeps for two
// minutes.
func (e *entry) ended() bool { return e.state >= tcpLastAck && e.state <= tcpClose }

// touches reports whether an end of the connection is in one of the prefixes.
func (e *entry) touches(ps []netip.Prefix) bool {
	return has(ps, e.orig.src) || has(ps, e.orig.dst) || has(ps, e.reply.src) || has(ps, e.reply.dst)
}

// dump calls f for each entry. The entry's bytes are valid until f returns.
func dump(f func(*entry)) error {
	req := nl.NewNetlinkRequest(message(nl.IPCTNL_MSG_CT_GET), unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	var e entry
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if e.read(msg) {
			f(&e)
		}
		return true
	})
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return fmt.Errorf("list tracked connections: %w", err)
	}
	return nil
}

func message(kind int) int { return unix.NFNL_SUBSYS_CTNETLINK<<8 | kind }

// read decodes a message of the kernel (linux/netfilter/nfnetlink_conntrack.h).
func (e *entry) read(msg []byte) bool {
	if len(msg) < nl.SizeofNfgenmsg {
		return false
	}
	*e = entry{family: msg[0]}
	ok := each(msg[nl.SizeofNfgenmsg:], func(kind uint16, b []byte) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			e.key = b
			e.orig, e.proto = readTuple(b)
		case nl.CTA_TUPLE_REPLY:
			e.reply, _ = readTuple(b)
		case nl.CTA_ZONE:
			e.zone = b
		case nl.CTA_PROTOINFO:
			e.readTCP(b)
		}
	})
	return ok && e.orig.src.IsValid() && e.reply.src.IsValid()
}

func (e *entry) readTCP(b []byte) {
	each(b, func(kind uint16, b []byte) {
		if kind != nl.CTA_PROTOINFO_TCP {
			return
		}
		e.liberal = true
		each(b, func(kind uint16, b []byte) {
			switch {
			case len(b) == 0:
			case kind == nl.CTA_PROTOINFO_TCP_STATE:
				e.state = b[0]
			case kind == nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, kind == nl.CTA_PROTOINFO_TCP_FLAGS_REPLY:
				e.liberal = e.liberal && b[0]&liberal != 0
			}
		})
	})
}

func readTuple(b []byte) (t tuple, proto byte) {
	each(b, func(kind uint16, b []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			each(b, func(kind uint16, b []byte) {
				a, _ := netip.AddrFromSlice(b)
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					t.src = a
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					t.dst = a
				}
			})
		case nl.CTA_TUPLE_PROTO:
			each(b, func(kind uint16, b []byte) {
				if kind == nl.CTA_PROTO_NUM && len(b) == 1 {
					proto = b[0]
				}
			})
		}
	})
	return t, proto
}

// each calls f for each attribute, without its flags. It reports whether all of b was attributes.
func each(b []byte, f func(kind uint16, value []byte)) bool {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return false
		}
		f(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofRtAttr:size])
		b = b[min(len(b), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return len(b) == 0
}

// A changer changes entries over one socket.
type changer map[int]*nl.SocketHandle

func newChanger() (changer, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if err := errors.Join(s.SetSendTimeout(&nl.SocketTimeoutTv), s.SetReceiveTimeout(&nl.SocketTimeoutTv)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set a netlink socket's timeouts: %w", err)
	}
	return changer{unix.NETLINK_NETFILTER: {Socket: s}}, nil
}

func (c changer) close() { c[unix.NETLINK_NETFILTER].Close() }

// relax marks an entry of TCP as liberal in both directions. It reports whether the entry was still
// there.
func (c changer) relax(e *entry) (bool, error) {
	info := nl.NewRtAttr(nl.CTA_PROTOINFO|unix.NLA_F_NESTED, nil)
	tcp := info.AddRtAttr(nl.CTA_PROTOINFO_TCP|unix.NLA_F_NESTED, nil)
	for _, direction := range []int{nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, nl.CTA_PROTOINFO_TCP_FLAGS_REPLY} {
		tcp.AddRtAttr(direction, []byte{liberal, liberal}) // struct nf_ct_tcp_flags: flags, mask
	}
	return c.ask(nl.IPCTNL_MSG_CT_NEW, e, info)
}

// remove deletes an entry. It reports whether the entry was still there.
func (c changer) remove(e *entry) (bool, error) { return c.ask(nl.IPCTNL_MSG_CT_DELETE, e) }

func (c changer) ask(kind int, e *entry, more ...nl.NetlinkRequestData) (bool, error) {
	req := nl.NewNetlinkRequest(message(kind), unix.NLM_F_ACK)
	req.Sockets = c
	req.AddData(&nl.Nfgenmsg{NfgenFamily: e.family, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, e.key))
	if e.zone != nil {
		req.AddData(nl.NewRtAttr(nl.CTA_ZONE, e.zone))
	}
	for _, d := range more {
		req.AddData(d)
	}
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("change a tracked connection: %w", err)
	}
	return true, nil
}

// A Rewrite is a connection whose source the host translates: From reaches To as As.
type Rewrite struct{ From, To, As netip.Addr }

// Rewritten counts the open connections between two groups of prefixes whose source the host
// translates, and returns one of them.
func Rewritten(a, b []netip.Prefix) (n int, example Rewrite, err error) {
	if u, err := ReadUsage(); err != nil || u.Entries == 0 {
		return 0, Rewrite{}, err
	}
	err = dump(func(e *entry) {
		between := has(a, e.orig.src) && has(b, e.reply.src) || has(b, e.orig.src) && has(a, e.reply.src)
		if !between || e.orig.src == e.reply.dst || e.ended() {
			return
		}
		n, example = n+1, Rewrite{e.orig.src, e.reply.src, e.reply.dst}
	})
	return n, example, err
}

func has(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Reachable reports why the kernel's table cannot be reached: its netlink part may be missing.
func Reachable() error {
	const stats = 5 // IPCTNL_MSG_CT_GET_STATS
	req := nl.NewNetlinkRequest(message(stats), unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}
