package link

import (
	"fmt"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/netstack/wire"
)

// The parts that exchange packets through the tunnels need the Link, so they are made after it.
// They register until Run begins, as handlers do with an http.ServeMux. Registration panics when
// it is too late, or when the place is occupied: both are mistakes of the program.

// Datagrams receives the payload of a datagram from a peer's port inside the tunnel. The data path
// calls it: it must neither block nor keep the payload.
type Datagrams func(node string, port uint16, payload []byte)

// Handle registers h for datagrams to a port, wire.HAPort or wire.StrayPort. Without a handler the
// Link drops and counts them.
func (l *Link) Handle(port uint16, h Datagrams) {
	if port != wire.HAPort && port != wire.StrayPort {
		panic(fmt.Sprintf("link: no datagrams are sent to port %d", port))
	}
	l.register(fmt.Sprintf("port %d", port), l.tun.datagrams[port] != nil, func() { l.tun.datagrams[port] = h })
}

// HandleStreams registers s for the TCP packets of wire.ControlPort and wire.AskPort. Without it
// the Link drops and counts them.
func (l *Link) HandleStreams(s Streams) {
	l.register("the control streams", l.tun.streams != nil, func() { l.tun.streams = s })
}

// SetTrunks registers t for packets of trunks. Without it this node advertises that it accepts
// none.
func (l *Link) SetTrunks(t Trunks) {
	l.register("trunks", l.tun.trunks != nil, func() {
		l.tun.trunks = t
		for _, p := range l.peers {
			p.hello.SetCapabilities(hello.PartialChecksums | hello.Trunks)
		}
	})
}

func (l *Link) register(what string, occupied bool, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started {
		panic("link: " + what + " registered after Run")
	}
	if occupied {
		panic("link: " + what + " registered twice")
	}
	do()
}
