package bind

import "golang.zx2c4.com/wireguard/conn"

// receiver applies the rules to what one ReceiveFunc of the carrier returns. Not safe for
// concurrent use.
type receiver struct {
	b    *Bind
	from conn.ReceiveFunc // the carrier's

	// The lane of a peer's datagrams is one of its own in each receiver.
	index, receivers int

	// lastOwn is a session index known to be ours, plus one, and lastPeer the peer
	// that it is for: a cache in front of ownIndices.
	lastOwn  uint64
	lastPeer int

	batch batch      // numbers datagrams for the Intake
	mac   macChecker // of messages to this node
}

func newReceiver(b *Bind, from conn.ReceiveFunc, index, receivers int) *receiver {
	return &receiver{
		b: b, from: from, index: index, receivers: receivers,
		batch: newBatch(receivers * max(1, len(b.config.Peers))),
		mac:   newMACChecker(b.config.PublicKey),
	}
}

// receive is a conn.ReceiveFunc. It returns the datagrams that the rules let pass where the
// carrier has put them. The others get size 0, which wireguard-go passes over.
func (r *receiver) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		n, err := r.from(bufs, sizes, eps)
		if err != nil {
			return 0, err
		}
		if n = r.filter(bufs[:n], sizes, eps); n > 0 {
			r.b.intake.enter(&r.batch)
			return n, nil
		}
	}
}

// filter sets the sizes of dropped datagrams to 0, and returns the number of buffers up to the
// last datagram that passes.
func (r *receiver) filter(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	frozen := r.b.frozen()
	for i, buf := range bufs {
		if sizes[i] == 0 {
			continue
		}
		m := buf[:sizes[i]]
		pass, peer := r.judge(m, eps[i])
		if pass && frozen && peer >= 0 && carriesPacket(m) {
			r.b.counters.drop(Frozen)
			pass = false
		}
		if !pass {
			sizes[i] = 0
			continue
		}
		r.number(buf, sizes[i], peer)
		n = i + 1
	}
	return n
}

// number stamps a buffer with a datagram of size bytes for a peer, below 0 for none.
func (r *receiver) number(buf []byte, size, peer int) {
	if r.b.intake == nil {
		return
	}
	lane := -1
	if peer >= 0 {
		lane = peer*r.receivers + r.index
	}
	r.batch.add(buf, size, lane)
}

// judge reports whether a datagram passes to wireguard-go, and which peer's session it names;
// -1 if it names no session of this process. Most datagrams never need from as an Endpoint, so
// judge asserts that type only where it does.
func (r *receiver) judge(m []byte, from conn.Endpoint) (pass bool, peer int) {
	c := &r.b.counters
	if len(m) < sizeKeepalive {
		if looksLikeNudge(m) {
			r.b.receiveNudge(m, from.(Endpoint))
		} else {
			c.drop(ReceiveMalformed)
		}
		return false, -1
	}
	switch messageType(m) {
	case typeTransport:
		index := receiverIndex(m)
		if r.lastOwn != uint64(index)+1 {
			peer, ok := r.b.own.peer(index)
			if !ok {
				// It passes: own is bounded and may have dropped the index.
				c.unknownSessions.Add(1)
				r.b.sendNudge(index, from.(Endpoint))
				return true, -1
			}
			r.lastOwn, r.lastPeer = uint64(index)+1, peer
		}
		return true, r.lastPeer
	case typeInitiation:
		if len(m) != sizeInitiation {
			break
		}
		if !r.b.dialsIn {
			c.drop(ReceiveInitiation)
			return false, -1
		}
		if !r.mac.check(m) {
			c.drop(ReceiveBadMAC)
			return false, -1
		}
		to := from.(Endpoint)
		if response, again := r.b.responder.arrived(m, to.AddrPort()); again {
			c.repeats.Add(1)
			r.b.sendOne(response[:], to)
			return false, -1
		}
		return true, -1
	case typeResponse:
		if len(m) != sizeResponse {
			break
		}
		if !r.mac.check(m) {
			c.drop(ReceiveBadMAC)
			return false, -1
		}
		r.b.dialler.answered(m)
		return true, -1
	case typeCookie:
		if len(m) != sizeCookie {
			break
		}
		return true, -1
	default:
		c.drop(ReceiveUnknownType)
		return false, -1
	}
	c.drop(ReceiveMalformed)
	return false, -1
}
