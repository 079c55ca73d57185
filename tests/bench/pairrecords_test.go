package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// makeUp has gray's node and red's first one remember n open connections that no
// host knows of, for red's second to learn. They were opened by both sides, as one
// may not fill the table. The nodes must not run.
func (p *pairing) makeUp(b *testing.B, n int) {
	b.Helper()
	red, gray := p.Red, p.Gray
	host := &queue{}
	table := flow.New(flow.Config{
		Sites: []flow.Site{
			{Name: red.Name, Prefixes: red.Subnets},
			{Name: gray.Name, Prefixes: gray.Subnets, Linked: true},
		},
		MTU: 1420, Judge: anything{}, Recorder: discard{}, Now: func() time.Duration { return time.Hour },
	})
	path := flow.NewPath(table, host)
	path.SetSite(1, flow.SiteState{Up: true})
	const ports = 50_000
	for i := range n {
		s, d := red.DB().LAN4, gray.DB().LAN4
		if i%2 == 1 {
			s, d = d, s
		}
		src, dst := netip.AddrPortFrom(s, uint16(1024+i/2%ports)), netip.AddrPortFrom(d, uint16(500+i/2/ports))
		const isn, answer = 1000, 9_000_000
		for step, seg := range []wiretest.TCP{
			{Src: src, Dst: dst, Seq: isn, Flags: wiretest.SYN, Options: scaled},
			{Src: dst, Dst: src, Seq: answer, Ack: isn + 1, Flags: wiretest.SYN | wiretest.ACK, Options: scaled},
			{Src: src, Dst: dst, Seq: isn + 1, Ack: answer + 1, Flags: wiretest.ACK},
		} {
			seg.Window = 65535
			if err := host.carry(path, seg.Packet(), (i+step)%2 == 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	if got := table.Stats(); got.Records != n {
		b.Fatalf("%d records were built, want %d", got.Records, n)
	}
	ended, cancel := context.WithCancel(b.Context())
	cancel()
	for _, node := range p.nodes[:2] {
		dir := filepath.Join(node.dir, "state")
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		s, err := records.Open(records.Config{Dir: dir, Logger: hclog.NewNullLogger()})
		if err != nil {
			b.Fatal(err)
		}
		s.SetSnapshot(table.Records(""))
		if err := s.Run(ended); err != nil { // it writes all before it ends
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

var scaled = []byte{2, 4, 5, 0xb4, 1, 3, 3, 7} // MSS 1460, window scale 7

type anything struct{}

func (anything) Judge(netip.Addr, netip.Addr, uint8, uint16) *flow.Rule { return &rule }

var rule = flow.Rule{Name: "all"}

type discard struct{}

func (discard) Put(k, v []byte) {}
func (discard) Delete(k []byte) {}

// queue is a flow.Host that holds at most one packet, and forgets the previous one.
type queue struct{ next []byte }

// carry sends a packet through path, from this host or from the link.
func (q *queue) carry(path *flow.Path, pkt []byte, fromHost bool) error {
	const offset, room = 16, 2048
	if !fromHost {
		_, err := path.Write([][]byte{append(make([]byte, offset, room), pkt...)}, offset)
		return err
	}
	q.next = pkt
	n, err := path.Read([][]byte{make([]byte, room)}, []int{0}, offset)
	if err == nil && n != 1 {
		err = fmt.Errorf("packet %x was dropped", pkt)
	}
	return err
}

func (q *queue) Read(b []byte) (int, wire.Offload, error) {
	if q.next == nil {
		return 0, wire.Offload{}, os.ErrClosed
	}
	n := copy(b, q.next)
	q.next = nil
	return n, wire.Offload{}, nil
}

func (q *queue) TryRead([]byte) (int, wire.Offload, error) { return 0, wire.Offload{}, nil }
func (q *queue) Write([][]byte, wire.Offload) error        { return nil }
func (q *queue) SetReadDeadline(time.Time) error           { return nil }
func (q *queue) Pending() bool                             { return q.next != nil }
func (q *queue) Offload() bool                             { return false }
