package bind

import "time"

// silentAfter is how long after the latest message of a peer that dials in this node may send to
// it. Firewalls forget an idle UDP flow after 30 s or later (Linux: nf_conntrack_udp_timeout), and
// what this node sent after that would begin a flow from the side that may begin none. The other
// 2 s are for the round trip: the firewall has seen that message before this node did, and sees
// the answer after this node has sent it. A keepalive of 25 s, as WireGuard recommends behind
// firewalls, keeps this node's permission.
const silentAfter = 28 * time.Second

// mayBegin permits this node to send at any time: it dials the peer at this Endpoint.
func (s *Session) mayBegin() {
	if !s.begins.Load() {
		s.begins.Store(true)
	}
}

// heard notes a message of a peer that dials in. now is the Bind's clock.
func (s *Session) heard(now time.Duration) { s.heardAt.Store(int64(max(now, 1))) }

// silent reports whether this node may send answers only.
func (s *Session) silent(now time.Duration) bool {
	if s.begins.Load() {
		return false
	}
	at := time.Duration(s.heardAt.Load())
	return at == 0 || now-at > silentAfter
}

// Answers reports whether only messages of the peer permit this node to send. A carrier then never
// sends from another local address than the one that the peer has dialled: to a firewall that would
// be a flow that this node begins.
func (s *Session) Answers() bool { return s.heardAt.Load() != 0 && !s.begins.Load() }

// isHandshake reports whether a message belongs to a handshake. Initiations have a rule of their
// own (dialler.initiate), and the others answer one that has just arrived.
func isHandshake(m []byte) bool {
	if len(m) < sizeKeepalive {
		return false
	}
	switch messageType(m) {
	case typeInitiation, typeResponse, typeCookie:
		return true
	}
	return false
}
