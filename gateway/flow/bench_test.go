package flow

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// A replay is a Host that gives one packet again and again, and takes any.
type replay struct {
	packet []byte
	o      wire.Offload
	writes int
}

func (r *replay) Read(b []byte) (int, wire.Offload, error)  { return copy(b, r.packet), r.o, nil }
func (r *replay) TryRead([]byte) (int, wire.Offload, error) { return 0, wire.Offload{}, nil }
func (r *replay) Write([][]byte, wire.Offload) error        { r.writes++; return nil }
func (r *replay) SetReadDeadline(time.Time) error           { return nil }
func (r *replay) Offload() bool                             { return true }
func (r *replay) Pending() bool                             { return false }

// benchPath is a path on which redDB and grayDB have a connection, and on which
// other connections are open too.
func benchPath(b *testing.B, partial bool) (*Path, *replay, *talk) {
	g := newGW(b, allow)
	for i := range 1000 {
		t := newTalk(redDB, grayDB)
		t.src = netip.AddrPortFrom(ip("10.77.1.20"), uint16(1024+i))
		g.open(t)
	}
	t := newTalk(redDB, grayDB)
	g.open(t)
	start := time.Now()
	g.table.cfg.Now = func() time.Duration { return time.Since(start) }
	r := &replay{}
	p := NewPath(g.table, r)
	p.SetSite(gray, SiteState{Up: true, Partial: partial})
	return p, r, t
}

func super(t *talk, n int) ([]byte, wire.Offload) {
	s := wiretest.TCP{Src: t.src, Dst: t.dst, Seq: t.a, Ack: t.b, Flags: wiretest.ACK | wiretest.PSH, Window: t.win,
		Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, Payload: make([]byte, n)}
	return s.Packet(), wire.Offload{GSOSize: 1368, HdrLen: 52, NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
}

func benchRead(b *testing.B, n int, partial bool) {
	benchReadWith(b, n, partial, func(*testing.B, *Path) {})
}

func benchReadWith(b *testing.B, n int, partial bool, change func(*testing.B, *Path)) {
	p, r, t := benchPath(b, partial)
	change(b, p)
	r.packet, r.o = super(t, n)
	if n <= 1368 {
		r.o = wire.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
	}
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	want := (n + 1367) / 1368
	b.SetBytes(int64(n))
	b.ReportAllocs()
	packets := 0
	for b.Loop() {
		got, err := p.Read(bufs, sizes, 16)
		if err != nil || got != want {
			b.Fatal(got, err)
		}
		packets += got
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}

func benchWrite(b *testing.B, n, size int, partial bool) {
	benchWriteWith(b, n, size, partial, func(*testing.B, *Path) {})
}

func benchWriteWith(b *testing.B, n, size int, partial bool, change func(*testing.B, *Path)) {
	p, _, t := benchPath(b, true)
	change(b, p)
	bufs := make([][]byte, n)
	var fresh [][]byte
	for i := range bufs {
		s := wiretest.TCP{Src: t.dst, Dst: t.src, Seq: t.b + uint32(i*size), Ack: t.a, Flags: wiretest.ACK, Window: t.win,
			Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, Payload: make([]byte, size)}
		pkt := s.Packet()
		if partial {
			binary.BigEndian.PutUint16(pkt[36:], wiretest.Sum(wiretest.PseudoHeader(pkt)))
		}
		bufs[i] = append(make([]byte, 16), pkt...)
		fresh = append(fresh, append([]byte(nil), bufs[i][:16+52]...))
	}
	b.SetBytes(int64(n * size))
	b.ReportAllocs()
	for b.Loop() {
		for i := range bufs {
			copy(bufs[i], fresh[i]) // joining has edited the headers
		}
		if got, err := p.Write(bufs, 16); err != nil || got != n {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*b.N), "ns/packet")
}

func BenchmarkReadSuperPartial(b *testing.B)  { benchRead(b, 46*1368, true) }
func BenchmarkReadSuperFull(b *testing.B)     { benchRead(b, 46*1368, false) }
func BenchmarkReadSmallPartial(b *testing.B)  { benchRead(b, 100, true) }
func BenchmarkReadSmallFull(b *testing.B)     { benchRead(b, 100, false) }
func BenchmarkWriteBatchPartial(b *testing.B) { benchWrite(b, 128, 1368, true) }
func BenchmarkWriteBatchFull(b *testing.B)    { benchWrite(b, 128, 1368, false) }
func BenchmarkWriteOnePartial(b *testing.B)   { benchWrite(b, 1, 100, true) }
func BenchmarkWriteOneFull(b *testing.B)      { benchWrite(b, 1, 100, false) }
