package legs

import (
	"errors"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A leg never gives up by itself.
func TestLegsKeepTrying(t *testing.T) {
	s := newSolo(t)
	var retries tcpip.TCPMaxRetriesOption
	if err := s.legs.stack.TransportProtocolOption(tcp.ProtocolNumber, &retries); err != nil || retries != legMaxRetries {
		t.Errorf("%d retries, %v", retries, err)
	}
}

// As many connections are relayed as may be, and each that is left raw is counted.
func TestLegsAreBounded(t *testing.T) {
	s := newSolo(t)
	s.legs.cfg.MaxRelays = 1
	end := make(chan struct{})
	relay := func(port uint16) *Relay { return &Relay{id: legID{Near: netip.AddrPortFrom(red4, port)}} }
	if s.legs.Full() {
		t.Error("full while nothing is relayed")
	}
	first := relay(1)
	if err := s.legs.enter(first, func() { <-end; s.legs.leave(first) }); err != nil {
		t.Fatal(err)
	}
	if err := s.legs.enter(relay(2), func() {}); !errors.Is(err, errFull) {
		t.Errorf("one more than may be: %v", err)
	}
	if !s.legs.Full() {
		t.Error("not full")
	}
	if n := s.legs.Stats().Full; n != 1 {
		t.Errorf("%d counted, want 1: a question is no refusal", n)
	}
	s.legs.CountRefused()
	if n := s.legs.Stats().Full; n != 2 {
		t.Errorf("%d counted, want 2", n)
	}
	close(end)
	s.legs.wg.Wait()
	if s.legs.Full() {
		t.Error("full after the end")
	}
}
