package bind

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func makeResponse(sender, receiver uint32) []byte {
	m := make([]byte, sizeResponse)
	m[0] = typeResponse
	binary.LittleEndian.PutUint32(m[4:], sender)
	binary.LittleEndian.PutUint32(m[8:], receiver)
	return m
}

func TestEcho(t *testing.T) {
	red := netip.MustParseAddrPort("192.0.2.1:51820")
	other := netip.MustParseAddrPort("192.0.2.2:51820")
	initiation, answer := makeInitiation(t, mayKey, 7), makeResponse(70, 7)
	forged := makeInitiation(t, mayNotKey, 7)

	var r responder
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
	r.responds(answer, other) // a response to someone else of the same index
	arrive("again, another answered", initiation, red, false)
	r.responds(answer, red)
	arrive("from elsewhere", initiation, other, false)
	arrive("another of the same index", forged, red, false)
	for range maxEchoes {
		arrive("repeated", initiation, red, true)
	}
	arrive("too often", initiation, red, false)
}

func TestEchoIsBounded(t *testing.T) {
	red := netip.MustParseAddrPort("192.0.2.1:51820")
	var r responder
	first := makeInitiation(t, mayKey, 1)
	r.arrived(first, red)
	r.responds(makeResponse(70, 1), red)
	for i := range uint32(maxExchanges) {
		r.arrived(makeInitiation(t, mayKey, i+2), red)
	}
	if _, again := r.arrived(first, red); again {
		t.Error("remembers more than it should")
	}
}
