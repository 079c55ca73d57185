package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// fakeNet takes sends in the kernel's place, and refuses some.
type fakeNet struct {
	refuse func(h *unix.Msghdr) syscall.Errno
	sent   [][]byte // datagrams, as the kernel would cut them
}

func (f *fakeNet) sendmmsg(_ uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	for i := range msgs {
		h := &msgs[i].hdr
		if errno := f.refuse(h); errno != 0 {
			if i > 0 {
				return i, 0 // the kernel keeps the error for the next call
			}
			return 0, errno
		}
		for _, m := range datagramsOf(h) {
			f.sent = append(f.sent, bytes.Clone(m))
		}
	}
	return len(msgs), 0
}

// datagramsOf cuts a message as the kernel does.
func datagramsOf(h *unix.Msghdr) (out [][]byte) {
	var all []byte
	for _, v := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
		all = append(all, unsafe.Slice(v.Base, int(v.Len))...)
	}
	size := len(all)
	if h.Control != nil {
		control, err := unix.ParseSocketControlMessage(unsafe.Slice(h.Control, int(h.Controllen)))
		if err != nil {
			panic(err)
		}
		for _, c := range control {
			if c.Header.Level == unix.IPPROTO_UDP && c.Header.Type == unix.UDP_SEGMENT {
				size = int(binary.NativeEndian.Uint16(c.Data))
			}
		}
	}
	return slices.Collect(slices.Chunk(all, size))
}

func hasSource(h *unix.Msghdr) bool {
	return h.Control != nil && (*unix.Cmsghdr)(unsafe.Pointer(h.Control)).Level == unix.IPPROTO_IP
}

func oneBuffer() ([][]byte, []int, []conn.Endpoint) {
	return [][]byte{make([]byte, 2048)}, make([]int, 1), make([]conn.Endpoint, 1)
}

// TestRefusals has the kernel refuse sends in each way it knows. Ten datagrams
// of 1452 bytes, a shorter one, two long ones and a short one are sent.
func TestRefusals(t *testing.T) {
	sizes := []int{1452, 1452, 1452, 1452, 1452, 1452, 1452, 1452, 1452, 1452, 600, 1500, 1500, 64}
	coalesced := func(errno syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		return func(h *unix.Msghdr) syscall.Errno {
			if len(datagramsOf(h)) > 1 {
				return errno
			}
			return 0
		}
	}
	longer := func(limit int, errno syscall.Errno, single syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		return func(h *unix.Msghdr) syscall.Errno {
			d := datagramsOf(h)
			switch {
			case len(d[0]) <= limit:
				return 0
			case len(d) > 1:
				return errno
			}
			return single
		}
	}
	always := func(errno syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		return func(*unix.Msghdr) syscall.Errno { return errno }
	}
	withSource := func(errno syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		return func(h *unix.Msghdr) syscall.Errno {
			if hasSource(h) {
				return errno
			}
			return 0
		}
	}
	for _, c := range []struct {
		name    string
		refuse  func(*unix.Msghdr) syscall.Errno
		limit   int // longest datagram that must go out
		drops   map[bind.Reason]uint64
		splits  uint64
		tooBig  int32
		segment bool // still in use
		cleared bool
	}{
		{name: "none", refuse: always(0), limit: 9000, segment: true},
		{name: "the card has no checksums", refuse: coalesced(unix.EIO), limit: 9000, splits: 2},
		{name: "the MTU was lowered", refuse: longer(1452, unix.EMSGSIZE, unix.EMSGSIZE), limit: 1452,
			drops: map[bind.Reason]uint64{bind.SendTooBig: 2}, splits: 1, tooBig: 1, segment: true},
		{name: "the MTU was lowered, Linux before 6.14", refuse: longer(1400, unix.EINVAL, unix.EMSGSIZE), limit: 1400,
			drops: map[bind.Reason]uint64{bind.SendTooBig: 12}, splits: 2, tooBig: 2, segment: true},
		{name: "no route", refuse: always(unix.ENETUNREACH), drops: map[bind.Reason]uint64{bind.SendNoRoute: 14}, segment: true, cleared: true},
		{name: "a firewall", refuse: always(unix.EPERM), drops: map[bind.Reason]uint64{bind.SendForbidden: 14}, segment: true},
		{name: "no memory", refuse: always(unix.ENOBUFS), drops: map[bind.Reason]uint64{bind.SendNoBuffer: 14}, segment: true},
		{name: "something new", refuse: always(unix.ENOTTY), drops: map[bind.Reason]uint64{bind.SendFailed: 14}, segment: true},
		{name: "the source is gone", refuse: withSource(unix.EINVAL), limit: 9000, splits: 1, segment: true, cleared: true},
		{name: "the source leads nowhere", refuse: withSource(unix.ENETUNREACH), limit: 9000, segment: true, cleared: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tooBig atomic.Int32
			b := openTap(t, Config{OnTooBig: func() { tooBig.Add(1) }})
			s := b.v4.Load()
			f := &fakeNet{refuse: c.refuse}
			s.sendmmsg = f.sendmmsg
			ep, err := newEndpoint(netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			var bufs, want [][]byte
			for i, size := range sizes {
				bufs = append(bufs, makeMessage(size, i))
				if size <= c.limit {
					want = append(want, bufs[i])
				}
			}
			if err := b.Send(bufs, ep); err != nil {
				t.Errorf("Send: %v", err)
			}
			if !slices.EqualFunc(f.sent, want, bytes.Equal) {
				t.Errorf("%d datagrams went out, want %d, or others did", len(f.sent), len(want))
			}
			stats := b.Stats()
			for r, n := range stats.Drops {
				if n != c.drops[bind.Reason(r)] {
					t.Errorf("%d dropped as %s, want %d", n, bind.Reason(r), c.drops[bind.Reason(r)])
				}
			}
			if stats.SplitSends != c.splits {
				t.Errorf("%d sends split, want %d", stats.SplitSends, c.splits)
			}
			if stats.SentDatagrams != uint64(len(want)) {
				t.Errorf("%d counted as sent, want %d", stats.SentDatagrams, len(want))
			}
			if tooBig.Load() != c.tooBig {
				t.Errorf("OnTooBig called %d times, want %d", tooBig.Load(), c.tooBig)
			}
			if s.segment.Load() != c.segment {
				t.Errorf("GSO in use: %v, want %v", s.segment.Load(), c.segment)
			}
			if ep.cleared.Load() != c.cleared {
				t.Errorf("source cleared: %v, want %v", ep.cleared.Load(), c.cleared)
			}
		})
	}
}

// Errors on receive come and go, and never end the receiving.
func TestReceiveErrors(t *testing.T) {
	b := New(Config{})
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	errnos := []syscall.Errno{unix.ECONNREFUSED, unix.ENOMEM, unix.EINTR, unix.ENETDOWN}
	b.v4.Load().recvmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
		if len(errnos) > 0 {
			errno := errnos[0]
			errnos = errnos[1:]
			return -1, errno
		}
		return recvmmsg(fd, msgs)
	}
	if err := b.Send([][]byte{makeMessage(64, 0)}, endpointTo(t, "127.0.0.1", port)); err != nil {
		t.Fatal(err)
	}
	bufs, sizes, eps := oneBuffer()
	if n, err := fns[0](bufs, sizes, eps); n != 1 || err != nil {
		t.Errorf("receive = %d, %v", n, err)
	}
	if n := b.Stats().ReceiveErrors; n != 3 {
		t.Errorf("%d errors counted, want 3", n)
	}
}
