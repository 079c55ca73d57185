package link

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/gateway/quiet"
)

// hostileHello is a hello of the process boot with the sections, which answers one of this node's.
func hostileHello(boot uint64, answered []byte, sections ...string) []byte {
	field := func(b []byte, tag byte, value []byte) []byte {
		b = append(b, tag)
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		return append(b, value...)
	}
	core := binary.BigEndian.AppendUint64(nil, boot)
	core = binary.BigEndian.AppendUint32(core, 1)
	core = append(core, make([]byte, 16+1+4+4+4)...) // number, clock, flags, interval, keepalive, capabilities
	core = binary.BigEndian.AppendUint16(core, 1280)
	b := field([]byte("gwh\x01\x01\x00\x00\x00"), 1, core)
	if answered != nil {
		// Of a hello: 8 bytes of header, 3 of its first field, then boot (8), sequence (4), number
		// (8).
		echo := append(bytes.Clone(answered[11:19]), answered[23:31]...)
		b = field(b, 2, append(echo, make([]byte, 8)...))
	}
	for _, s := range sections {
		b = field(b, 7, append(make([]byte, 17), s...))
	}
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)-8))
	return b
}

// A peer with a valid key does all that causes a line in the log, as often as it can: it restarts,
// with another configuration each time, sends damaged hellos and those of other versions.
func TestPeerCannotFloodTheLog(t *testing.T) {
	var out bytes.Buffer
	p := newPair(t)
	c := p.red
	c.Path, c.TUNMTU = nopPath{}, 1420
	c.Peers[0].Sections = []hello.Section{{Name: "link"}}
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug, DisableTime: true})
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	peer := l.peers[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do(peer, peer.hello.Session(l.now(), true))
	var last []byte // this node's latest hello
	const hellos = 66000
	restarts := 0
	for i := range hellos {
		for len(l.tun.queue) > 0 {
			if pkt := <-l.tun.queue; pkt[28+4] == 1 {
				last = pkt[28:]
			}
		}
		b := hostileHello(uint64(i+1), last, "link", strings.Repeat("x", i%60+1))
		switch i % 8 {
		case 6:
			b = b[:len(b)-1]
		case 7:
			b[3] = byte(i)
		}
		before := peer.state(l.now()).Boot
		l.received(control{from: peer, payload: b})
		if peer.state(l.now()).Boot != before {
			restarts++
		}
	}
	peer.log.Flush()
	if restarts < 3 {
		t.Fatalf("the peer was restarted %d times: it is not the one that it should be", restarts)
	}
	lines := strings.Count(out.String(), "\n")
	t.Logf("%d hellos, %d restarts: %d lines, %d bytes", hellos, restarts, lines, out.Len())
	if lines > 4*quiet.DefaultBurst || out.Len() > 8<<10 {
		t.Errorf("%d lines:\n%.4000s", lines, out.String())
	}
}

// Log lines name some differences and count the others.
func TestNamesAreBounded(t *testing.T) {
	var many []hello.Difference
	for range 200 {
		many = append(many, hello.Difference{Section: "link", Name: strings.Repeat("n", hello.MaxAttrName)})
	}
	got := names(many, 50)
	if len(got) != maxNames+1 || !strings.HasPrefix(got[maxNames], "and 238 more") {
		t.Errorf("%d names, %q last", len(got), got[len(got)-1])
	}
	if got := names(many[:3], 0); len(got) != 3 {
		t.Errorf("%q", got)
	}
}
