package netstack

import (
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
