package flow

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/onewaylink/gw/netstack/wire"
)

// The gateway's own voice is limited, so that a scan can't make it shout (RFC
// 1812 section 4.3.2.8, RFC 4443 section 2.4(f)). What policy denies and what
// is too big have a budget each: a scan must not silence path MTU discovery.
const (
	voicePerSecond = 200
	voiceBurst     = 50
	voiceQueue     = 256 // packets that wait for the link
)

// voice makes the ICMP errors of the gateway.
type voice struct {
	from4, from6 netip.Addr
	denied, big  *rate.Limiter
}

func newVoice(addrs []netip.Addr) *voice {
	v := &voice{
		denied: rate.NewLimiter(voicePerSecond, voiceBurst),
		big:    rate.NewLimiter(voicePerSecond, voiceBurst),
	}
	for _, a := range addrs {
		if a.Is4() {
			v.from4 = a
		} else {
			v.from6 = a
		}
	}
	return v
}

// about returns the ICMP error about p, or nil when p may not be answered or
// enough has been said lately.
func (v *voice) about(kind wire.ICMPKind, p *wire.Packet, mtu int) []byte {
	budget := v.denied
	if kind == wire.PacketTooBig {
		budget = v.big
	}
	if !p.Answerable() || !budget.AllowN(time.Now(), 1) {
		return nil
	}
	return wire.AppendICMPError(nil, kind, p, v.address(p), mtu)
}

// address is what an error about p comes from.
func (v *voice) address(p *wire.Packet) netip.Addr {
	from := v.from4
	if p.V6 {
		from = v.from6
	}
	if !from.IsValid() {
		from = p.Dst()
	}
	return from
}

// outbox holds packets of the gateway's own that wait for Path.Read to take
// them to the link. It is bounded, and has one reader.
type outbox struct {
	n       atomic.Int32 // how many there are, so that the reader need not lock for none
	mu      sync.Mutex
	packets [][]byte
}

// put adds a packet, and reports whether there was room.
func (o *outbox) put(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.packets) >= voiceQueue {
		return false
	}
	o.packets = append(o.packets, b)
	o.n.Add(1)
	return true
}

// next takes out the oldest packet; nil when there is none.
func (o *outbox) next() []byte {
	if o.n.Load() == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.packets[0] // there is one reader: none has been taken since
	o.packets = slices.Delete(o.packets, 0, 1)
	o.n.Add(-1)
	return b
}

// take moves packets into bufs and returns how many.
func (o *outbox) take(bufs [][]byte, sizes []int, offset int) int {
	if o.n.Load() == 0 {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(bufs) && n < len(o.packets) {
		sizes[n] = copy(bufs[n][offset:], o.packets[n])
		n++
	}
	rest := copy(o.packets, o.packets[n:])
	clear(o.packets[rest:])
	o.packets = o.packets[:rest]
	o.n.Add(int32(-n))
	return n
}
