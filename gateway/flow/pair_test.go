package flow

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// handshake opens a connection from red to gray.
func (g *gw) handshake(t *talk) {
	g.Helper()
	g.want("SYN", g.out(t.call(wiretest.SYN)), wire.OK)
	g.want("SYN-ACK", g.in(t.answer(wiretest.SYN|wiretest.ACK)), wire.OK)
	g.want("ACK", g.out(t.call(wiretest.ACK)), wire.OK)
}

// TestStandbyHoldsFlows: a standby's flows come from records, don't age, and are
// carried on from the takeover.
func TestStandbyHoldsFlows(t *testing.T) {
	active, standby := newGW(t, allow), newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	active.handshake(talk)

	standby.table.SetStandby(true)
	for k, v := range active.table.Records("") {
		for range 2 { // the second replaces the first
			if r, err := standby.table.Replace(k, v); r != wire.OK || err != nil {
				t.Fatal(r, err)
			}
		}
		got, ok := standby.table.Record(nil, k)
		if !ok || !bytes.Equal(got, v) {
			t.Errorf("the standby's record is %x (%v), want %x", got, ok, v)
		}
	}
	if len(standby.book.records) != 0 {
		t.Error("the recorder heard of the sibling's record")
	}
	standby.now += 30 * 24 * time.Hour
	standby.table.SetStandby(false)
	standby.table.sweep(standby.now)
	standby.want("data after the takeover", standby.out(talk.call(wiretest.ACK|wiretest.PSH, 'x')), wire.OK)
	standby.want("the answer", standby.in(talk.answer(wiretest.ACK, 'y')), wire.OK)

	for k := range active.table.Records("") {
		standby.table.Remove(bytes.Clone(k))
		if _, ok := standby.table.Record(nil, k); ok {
			t.Error("the removed record is still there")
		}
	}
	standby.want("after the removal", standby.out(talk.call(wiretest.ACK)), wire.NoFlow)
	standby.table.Remove([]byte("no key"))
}

// TestActiveAgain: a node that was active, and is again, has missed what passed
// by the other one meanwhile, more than any window.
func TestActiveAgain(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.handshake(talk)
	g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
	g.want("the answer", g.in(talk.answer(wiretest.ACK, 'y')), wire.OK)
	g.table.SetStandby(true)
	talk.a, talk.b = talk.a+300<<20, talk.b+200<<20
	g.want("before the takeover", g.out(talk.call(wiretest.ACK, 'x')), wire.OutWindow)
	g.table.SetStandby(false)
	g.want("data after it", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
	g.want("the answer after it", g.in(talk.answer(wiretest.ACK, 'y')), wire.OK)
	talk.a += 300 << 20
	g.want("far outside", g.out(talk.call(wiretest.ACK, 'x')), wire.OutWindow)
}

// TestStrays: what the LAN sends to the standby leaves by the active node, byte
// for byte, also a super-segment with an unfinished checksum.
func TestStrays(t *testing.T) {
	active, standby := newGW(t, allow), newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	active.handshake(talk)
	var strays [][]byte
	standby.path.SetPass(func(b []byte) { strays = append(strays, bytes.Clone(b)) })

	payload := bytes.Repeat([]byte("0123456789"), 500)
	b := talk.call(wiretest.ACK|wiretest.PSH, payload...)
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK {
		t.Fatal(r)
	}
	o := p.SetPartial()
	o.GSOSize, o.HdrLen = 1380, uint16(p.Data)
	standby.want("super-segment", second(standby.fromHost(b, o)), wire.OK)

	var got []byte
	for _, s := range strays {
		if len(s) > maxStray {
			t.Fatalf("a stray of %d bytes", len(s))
		}
		active.path.Stray(s)
	}
	for _, out := range active.readAll() {
		if r := wire.Parse(&p, out); r != wire.OK || !p.ChecksumOK() {
			t.Fatalf("a stray left as %v, checksum ok %v", r, p.ChecksumOK())
		}
		got = append(got, p.Payload()...)
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("%d bytes left in %d strays, want %d", len(got), len(strays), len(payload))
	}

	big := wire.AppendUDP(nil, redDB, grayDB, make([]byte, 1300))
	standby.want("a large datagram", second(standby.fromHost(big, wire.Offload{})), wire.Standby)
	before := standby.table.Stats().Drops
	standby.path.Stray(strays[0]) // neither is active
	standby.want("a stray at a standby", standby.dropped(before), wire.Standby)
	standby.path.SetPass(nil)
	standby.want("after the takeover", standby.out(newTalk(redDB, grayDB).call(wiretest.SYN)), wire.OK)
}

func second(_ [][]byte, r wire.Reason) wire.Reason { return r }

// TestFrozen: while the process is taken for frozen, nothing passes.
func TestFrozen(t *testing.T) {
	alive := true
	g := newGW(t, allow, func(c *Config) { c.Alive = func() bool { return alive } })
	talk := newTalk(redDB, grayDB)
	g.handshake(talk)
	alive = false
	g.want("from the host", g.out(talk.call(wiretest.ACK, 'x')), wire.Frozen)
	g.want("from the link", g.in(talk.answer(wiretest.ACK, 'y')), wire.Frozen)
	alive = true
	talk.a-- // the byte that was dropped was never received
	g.want("awake", g.in(talk.answer(wiretest.ACK, 'z')), wire.OK)
}

// TestFrozenInTheMiddle: a process is frozen while it cuts up a segment, with an
// acknowledgement and a stray ready to leave. The connection moves on by 2^32 bytes
// elsewhere, so that the old numbers look new. None of them leaves.
func TestFrozenInTheMiddle(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.handshake(talk)
	g.want("data", g.in(talk.answer(wiretest.ACK, 'x')), wire.OK)
	g.want("acknowledgement", g.out(talk.call(wiretest.ACK)), wire.OK)
	stray := talk.call(wiretest.ACK)
	segment := talk.call(wiretest.ACK, make([]byte, 20000)...)
	g.host.send(segment, wire.Offload{GSOSize: 1380, HdrLen: uint16(len(segment) - 20000), CsumValid: true})
	bufs, sizes := [][]byte{make([]byte, 2048)}, make([]int, 1)
	if n, err := g.path.Read(bufs, sizes, 0); n != 1 || err != nil {
		t.Fatalf("the first piece: %d, %v", n, err)
	}
	if n := g.path.Retell(t.Context(), gray); n != 1 {
		t.Fatalf("%d acknowledgements, want 1", n)
	}
	g.path.Stray(stray)
	g.path.Discard()
	before := g.table.Stats().Drops[wire.Frozen]
	if out := g.readAll(); len(out) != 0 {
		t.Errorf("%d stale packets left, the first of %d bytes", len(out), len(out[0]))
	}
	if n := g.table.Stats().Drops[wire.Frozen] - before; n != 3 {
		t.Errorf("%d counted as discarded, want 3", n)
	}
	g.want("awake", g.out(talk.call(wiretest.ACK, 'z')), wire.OK)
}

// TestFrozenAmidBatch: a process is frozen with a batch from the link half written.
// The rest is not delivered.
func TestFrozenAmidBatch(t *testing.T) {
	for _, offload := range []bool{true, false} {
		looks := 0 // at the pulse that find it beating
		g := newGW(t, allow, func(c *Config) {
			c.Alive = func() bool { looks--; return looks >= 0 }
		})
		g.host.CanOffload = offload
		talks := []*talk{newTalk(redDB, grayDB), newTalk(netip.AddrPortFrom(redDB.Addr(), 9999), grayDB)}
		looks = 100
		var batch [][]byte
		for _, talk := range talks {
			g.handshake(talk)
			batch = append(batch, talk.answer(wiretest.ACK, 'x'))
		}
		g.host.written()
		looks = 2 // for the batch, and for one of its packets
		if out, r := g.fromLink(batch...); len(out) != 1 || r != wire.Frozen {
			t.Errorf("offload %v: %d delivered and the rest dropped as %v, want 1, %v", offload, len(out), r, wire.Frozen)
		}
	}
}

// TestWake: a sender whose byte is in flight is told host-unreachable about just
// that byte, until it moves; one with nothing in flight is left alone.
func TestWake(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{redDB, grayDB}, {redDB6, grayDB6}} {
		g := newGW(t, allow)
		talk := newTalk(ends[0], ends[1])
		g.handshake(talk)
		if n := g.path.WakeFlows(context.Background(), gray); n != 0 {
			t.Fatalf("%d flows woken, and nothing is in flight", n)
		}
		una := talk.a
		g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
		if n := g.path.WakeFlows(t.Context(), gray); n != 1 {
			t.Fatalf("%d flows woken", n)
		}
		told := g.host.written()
		if len(told) != len(wakeAfter) {
			t.Errorf("told %d times, want %d", len(told), len(wakeAfter))
		}
		var p wire.Packet
		if r := wire.Parse(&p, told[0].b); r != wire.OK || !p.IsICMPError() || !p.ChecksumOK() || p.Dst() != ends[0].Addr() {
			t.Fatalf("told %v by %x", r, told[0].b)
		}
		q, r := wire.ParseQuoted(&p)
		if r != wire.OK || q.Src != ends[0].Addr() || q.Dst != ends[1].Addr() || q.SrcPort != ends[0].Port() || q.DstPort != ends[1].Port() {
			t.Errorf("quoted %+v, %v", q, r)
		}
		quoted := p.Payload()
		header := wire.IPv4Header
		if p.V6 {
			header = wire.IPv6Header
		}
		if seq := uint32(quoted[header+4])<<24 | uint32(quoted[header+5])<<16 | uint32(quoted[header+6])<<8 | uint32(quoted[header+7]); seq != una {
			t.Errorf("quoted sequence number %d, want %d", seq, una)
		}
		g.want("acknowledged", g.in(talk.answer(wiretest.ACK)), wire.OK)
		if n := g.path.WakeFlows(t.Context(), gray); n != 0 {
			t.Errorf("%d flows woken after the acknowledgement", n)
		}
	}
}

// sleeping opens n connections of this site with a byte in flight each.
func (g *gw) sleeping(n int) (talks []*talk) {
	for i := range n {
		talk := newTalk(netip.AddrPortFrom(redDB.Addr(), uint16(1024+i)), grayDB)
		g.handshake(talk)
		g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
		talks = append(talks, talk)
	}
	return talks
}

// TestWakesArePaced: whatever number of connections sleeps, and however often a peer makes
// its link return, no more wakes are sent than the limit allows; each connection is woken
// in the time that the limit takes for all.
func TestWakesArePaced(t *testing.T) {
	const n = 3000
	allowed := func(passed time.Duration) uint64 {
		return recallBurst + uint64(passed.Seconds()*recallsPerSecond) + 1
	}
	t.Run("many sleepers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGW(t, allow)
			g.sleeping(n)
			g.host.written()
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			g.path.WakeFlows(ctx, gray)
			if got := g.path.Recalls().Wakes; got > allowed(time.Since(start)) {
				t.Errorf("%d wakes in %v", got, time.Since(start))
			}
			woken := map[netip.AddrPort]bool{}
			for _, w := range g.host.written() {
				q, _ := wire.ParseQuoted(parsed(t, w.b))
				woken[netip.AddrPortFrom(q.Src, q.SrcPort)] = true
			}
			if len(woken) < n*9/10 {
				t.Errorf("%d of %d connections woken within %v", len(woken), n, time.Since(start))
			}
		})
	})
	t.Run("a link that returns all the time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGW(t, allow)
			g.sleeping(n)
			start := time.Now()
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				g.path.WakeFlows(ctx, gray)
				g.path.Retell(ctx, gray)
				cancel()
			}
			passed, got := time.Since(start), g.path.Recalls()
			if got.Wakes > allowed(passed) || got.Retold > allowed(passed) {
				t.Errorf("%+v in %v", got, passed)
			}
			if got.WakesLeft == 0 || got.RetoldLeft == 0 {
				t.Errorf("%+v: what was left out is not counted", got)
			}
		})
	})
	t.Run("a takeover of 50 connections", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGW(t, allow)
			g.sleeping(50)
			start := time.Now()
			g.path.WakeFlows(t.Context(), gray)
			var rounds time.Duration
			for _, pause := range wakeAfter {
				rounds += pause
			}
			if passed := time.Since(start); passed != rounds {
				t.Errorf("took %v, want %v", passed, rounds)
			}
			if got := g.path.Recalls(); got.Wakes != 50*uint64(len(wakeAfter)) || got.WakesLeft != 0 {
				t.Errorf("%+v", got)
			}
		})
	})
}

// TestPause: what the host sends waits in its device, what others have put aside
// does not, and nothing is lost.
func TestPause(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.handshake(talk)
	g.path.Pause(true)
	g.host.send(talk.call(wiretest.ACK, 'x'), wire.Offload{})
	bufs, sizes := [][]byte{make([]byte, 2048)}, make([]int, 1)
	read := func() int {
		t.Helper()
		n, err := g.path.Read(bufs, sizes, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 3 {
		if n := read(); n != 0 {
			t.Fatalf("a paused Read gives %d packets", n)
		}
	}
	g.path.Stray(newTalk(redDB, grayDB).call(wiretest.SYN))
	if n := read(); n != 1 {
		t.Errorf("a paused Read gives %d packets of the sibling, want 1", n)
	}
	g.path.Pause(false)
	n := 0
	for range 3 { // Wakes are read first
		n += read()
		if n > 0 {
			break
		}
	}
	var p wire.Packet
	if r := wire.Parse(&p, bufs[0][:sizes[0]]); n != 1 || r != wire.OK || string(p.Payload()) != "x" {
		t.Errorf("after the pause Read gives %d packets, %v %q", n, r, p.Payload())
	}
}

func TestStuck(t *testing.T) {
	g := newGW(t, allow)
	for range 2 * stuckAfter {
		if g.path.Stuck() {
			t.Fatal("an idle path is taken for stuck")
		}
	}
	g.host.send([]byte{0}, wire.Offload{}) // and nobody reads it
	for i := 1; i < stuckAfter; i++ {
		if g.path.Stuck() {
			t.Fatalf("stuck after %d looks", i)
		}
	}
	if !g.path.Stuck() {
		t.Error("a path that doesn't move is not taken for stuck")
	}
	g.readAll()
	if g.path.Stuck() {
		t.Error("a path that has moved is still taken for stuck")
	}
}

// TestRetell: what the local end has acknowledged last is said again as it was,
// for connections of which that is known and that have moved lately.
func TestRetell(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{redDB, grayDB}, {redDB6, grayDB6}} {
		g := newGW(t, allow)
		talk := newTalk(ends[0], ends[1])
		if n := g.path.Retell(t.Context(), gray); n != 0 {
			t.Fatalf("%d acknowledgements of no connection", n)
		}
		g.handshake(talk)
		g.want("data", g.in(talk.answer(wiretest.ACK, 'x', 'y')), wire.OK)
		talk.win = 1000
		g.want("acknowledgement", g.out(talk.call(wiretest.ACK)), wire.OK)
		g.want("data that overtakes it", g.out(talk.call(wiretest.ACK, 'z')), wire.OK)

		if n := g.path.Retell(t.Context(), gray); n != 1 {
			t.Fatalf("%d acknowledgements, want 1", n)
		}
		out := g.readAll()
		var p wire.Packet
		if len(out) != 1 || wire.Parse(&p, out[0]) != wire.OK || !p.ChecksumOK() {
			t.Fatalf("said %x", out)
		}
		if netip.AddrPortFrom(p.Src(), p.SrcPort) != ends[0] || netip.AddrPortFrom(p.Dst(), p.DstPort) != ends[1] || p.Flags != wire.ACK || len(p.Payload()) != 0 {
			t.Errorf("said %+v", p)
		}
		// The window is what is left of the one that was larger.
		if p.Seq != talk.a || p.Ack != talk.b || p.Window != 65535-1 {
			t.Errorf("sequence number %d, acknowledged %d, window %d; want %d, %d, %d", p.Seq, p.Ack, p.Window, talk.a, talk.b, 65535-1)
		}

		g.now += lively
		if n := g.path.Retell(t.Context(), gray); n != 0 {
			t.Errorf("%d acknowledgements of a connection that rests", n)
		}
		g.want("data", g.in(talk.answer(wiretest.ACK, 'x')), wire.OK)
		g.table.SetStandby(true)
		g.table.SetStandby(false)
		if n := g.path.Retell(t.Context(), gray); n != 0 {
			t.Errorf("%d acknowledgements of a connection that moved elsewhere meanwhile", n)
		}
	}
}

// TestRetellAtTheEnd: a connection is spoken for while one end may still wait, and
// not when both may have forgotten it.
func TestRetellAtTheEnd(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.handshake(talk)
	g.want("data", g.in(talk.answer(wiretest.ACK, 'x')), wire.OK)
	g.want("acknowledgement", g.out(talk.call(wiretest.ACK)), wire.OK)
	for _, c := range []struct {
		name string
		end  func()
		want int
	}{
		{"open", func() {}, 1},
		{"half-closed", func() { g.want("fin", g.in(talk.answer(wiretest.FIN|wiretest.ACK)), wire.OK) }, 1},
		{"half-closed, and that acknowledged", func() { g.want("acknowledgement", g.out(talk.call(wiretest.ACK)), wire.OK) }, 0},
		{"closing", func() { g.want("fin", g.out(talk.call(wiretest.FIN|wiretest.ACK)), wire.OK) }, 0},
		{"over", func() { g.want("last acknowledgement", g.in(talk.answer(wiretest.ACK)), wire.OK) }, 0},
	} {
		c.end()
		if n := g.path.Retell(t.Context(), gray); n != c.want {
			t.Errorf("%s: %d acknowledgements, want %d", c.name, n, c.want)
		}
		g.readAll()
	}
}

// TestRetellMore than the link takes at once: none is lost.
func TestRetellMore(t *testing.T) {
	const many = 3 * voiceQueue
	g := newGW(t, allow)
	for i := range many {
		g.handshake(newTalk(netip.AddrPortFrom(redDB.Addr(), uint16(10000+i)), grayDB))
	}
	done := make(chan int)
	go func() { done <- g.path.Retell(t.Context(), gray) }()
	got := 0
	for n := 0; n == 0; {
		select {
		case n = <-done:
			if n != many {
				t.Errorf("%d acknowledgements, want %d", n, many)
			}
		default:
		}
		got += len(g.readAll())
	}
	if got != many {
		t.Errorf("%d packets, want %d", got, many)
	}
}

// TestPassesOn: what is told of a packet that reaches a standby is what becomes of it.
func TestPassesOn(t *testing.T) {
	g := newGW(t, allow)
	for _, c := range []struct {
		name string
		b    []byte
		want wire.Reason
	}{
		{"a SYN", newTalk(redDB, grayDB).call(wiretest.SYN), wire.OK},
		{"bulk", wiretest.TCP{Src: redDB, Dst: grayDB, Flags: wiretest.ACK, Payload: make([]byte, 4000)}.Packet(), wire.OK},
		{"a small datagram", wiretest.UDP(redDB, grayDB, make([]byte, 100)), wire.OK},
		{"a large datagram", wiretest.UDP(redDB, grayDB, make([]byte, 1300)), wire.Standby},
		{"no packet", []byte{0x45}, wire.Short},
	} {
		if got := g.path.PassesOn(c.b); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
