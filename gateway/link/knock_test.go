package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
)

// TestKnock: a socket that is there says nothing, one that is gone is known to be.
func TestKnock(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if err != nil {
			t.Fatal(err)
		}
		var k knocker
		if k.knock() {
			t.Error("a peer whose place is not known was said to be gone")
		}
		k.moved(c.LocalAddr().String())
		for range 10 {
			if k.knock() {
				t.Fatalf("%s listens and was said to be gone", addr)
			}
		}
		if n, _, err := c.ReadFrom(make([]byte, 10)); n != 0 || err != nil {
			t.Errorf("the question has %d bytes, %v", n, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for !k.knock() {
			if time.Now().After(deadline) {
				t.Fatalf("%s is closed, and nobody says so", addr)
			}
		}
		k.moved("")
		if !k.knock() {
			t.Error("the answer came once and no more")
		}
		k.close()
		if k.knock() {
			t.Error("knocked after the end")
		}
	}
}

// TestKnockIsPassedOver: the other gateway drops nothing for it, and it carries on.
func TestKnockIsPassedOver(t *testing.T) {
	await.NoLeaks(t)
	red, gray1, _, _ := threeNodes(t)
	before := gray1.bind.Stats()
	for range 100 {
		if red.Knock("gray-1") {
			t.Fatal("gray-1 runs and was said to be gone")
		}
	}
	carries(t, red, gray1, packet("10.77.1.10:1000", "10.77.2.10:2000", "out"))
	after := gray1.bind.Stats()
	if before.Drops != after.Drops {
		t.Errorf("drops %v, before %v", after.Drops, before.Drops)
	}
	if red.Knock("nobody") {
		t.Error("an unknown node was said to be gone")
	}
}
