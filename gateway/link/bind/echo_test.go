package bind

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// makeResponse makes a response to the holder of a public key, well-formed but for its
// cryptography.
func makeResponse(t testing.TB, to [32]byte, sender, receiver uint32) []byte {
	t.Helper()
	m := make([]byte, sizeResponse)
	m[0] = typeResponse
	binary.LittleEndian.PutUint32(m[4:], sender)
	binary.LittleEndian.PutUint32(m[8:], receiver)
	return addMAC1(t, m, to)
}

func TestEcho(t *testing.T) {
	red := netip.MustParseAddrPort("192.0.2.1:51820")
	other := netip.MustParseAddrPort("192.0.2.2:51820")
	initiation, answer := makeInitiation(t, mayKey, 7), makeResponse(t, mayKey, 70, 7)

	r := newResponder(2)
	arrive := func(what string, m []byte, from netip.AddrPort, want bool) {
		t.Helper()
		got, again := r.arrived(m, from)
		if again != want {
			t.Fatalf("%s: repeated = %v, want %v", what, again, want)
		}
		if again && got != [sizeResponse]byte(answer) {
			t.Fatalf("%s: another response", what)
		}
	}
	arrive("first", initiation, red, false)
	arrive("again, unanswered", initiation, red, false)
	r.responds(answer, 0, other) // a response to someone else of the same index
	arrive("again, another answered", initiation, red, false)
	r.responds(answer, 0, red)
	arrive("from elsewhere", initiation, netip.MustParseAddrPort("192.0.2.1:51821"), false)
	arrive("another index", makeInitiation(t, mayKey, 8), red, false)
	for range maxEchoes {
		arrive("repeated", initiation, red, true)
	}
	arrive("too often", initiation, red, false)
}

// TestEchoIsKept: neither initiations that nobody has answered, which anyone can make up, nor
// the handshakes of another peer push out the response to a real one.
func TestEchoIsKept(t *testing.T) {
	red := netip.MustParseAddrPort("192.0.2.1:51820")
	r := newResponder(2)
	first := makeInitiation(t, mayKey, 1)
	r.responds(makeResponse(t, mayKey, 70, 1), 0, red)
	for i := range uint32(1000) {
		r.arrived(makeInitiation(t, mayKey, i+2), red)
		r.responds(makeResponse(t, mayKey, 1000+i, i+2), 1, red)
	}
	if _, again := r.arrived(first, red); !again {
		t.Error("the response was pushed out")
	}
	for i := range uint32(maxExchanges) {
		r.responds(makeResponse(t, mayKey, 80+i, i+2), 0, red)
	}
	if _, again := r.arrived(first, red); again {
		t.Error("remembers more than it should")
	}
}
