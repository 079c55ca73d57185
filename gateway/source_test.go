package gateway

import (
	"testing"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/netstack/wire"
)

// TestProtocolNames: a connection list names protocols as commands name them: ICMPv6 is icmp, too.
func TestProtocolNames(t *testing.T) {
	for proto, want := range map[uint8]string{
		wire.ProtoTCP: "tcp", wire.ProtoUDP: "udp", wire.ProtoICMP: "icmp", wire.ProtoICMPv6: "icmp", 47: "47",
	} {
		if got := connStatus(flow.Conn{Proto: proto}).Proto; got != want {
			t.Errorf("protocol %d: %q, want %q", proto, got, want)
		}
	}
}
