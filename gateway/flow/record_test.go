package flow

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// restarted is a gateway that has g's records.
func (g *gw) restarted(j judge, change ...func(*Config)) *gw {
	g.Helper()
	n := newGW(g.TB, j, change...)
	n.now = g.now
	for k, v := range g.book.records {
		if r, err := n.table.Take([]byte(k), v); err != nil || r != wire.OK {
			g.Fatalf("take: %v, %v", r, err)
		}
	}
	return n
}

func TestRestart(t *testing.T) {
	for _, caller := range [][2]netip.AddrPort{{redDB, grayDB}, {grayDB, redDB}, {redDB6, grayDB6}, {grayDB6, redDB6}} {
		t.Run(caller[0].String(), func(t *testing.T) {
			local := sites[red].Prefixes[0].Contains(caller[0].Addr()) || sites[red].Prefixes[1].Contains(caller[0].Addr())
			pass := func(g *gw, fromCaller bool, b []byte) wire.Reason {
				if fromCaller == local {
					return g.out(b)
				}
				return g.in(b)
			}
			g, c := newGW(t, allow), newTalk(caller[0], caller[1])
			g.want("syn", pass(g, true, c.call(syn)), wire.OK)
			g.want("syn-ack", pass(g, false, c.answer(syn|ack)), wire.OK)
			g.want("ack", pass(g, true, c.call(ack)), wire.OK)
			g.want("data", pass(g, true, c.call(ack, make([]byte, 5000)...)), wire.OK)

			n := g.restarted(allow)
			if got := n.conn(); got.Local != local || got.Source != caller[0] || got.Destination != caller[1] || got.State != "established" || got.Site != "gray" {
				t.Errorf("%+v", got)
			}
			n.want("far from the record", pass(n, true, c.raw(true, ack, c.a+uint32(tcptrack.RecordWindow)+1000, c.b, 10)), wire.OutWindow)
			n.want("its rst", pass(n, false, c.raw(false, rst, c.b+uint32(tcptrack.RecordWindow)+1000, 0, 0)), wire.OutWindow)
			n.want("more", pass(n, true, c.call(ack, make([]byte, 1000)...)), wire.OK)
			n.want("its ack", pass(n, false, c.answer(ack)), wire.OK)
			// Both have been heard: now there are windows again.
			win := uint32(65535) << 7
			n.want("outside", pass(n, true, c.raw(true, ack, c.a+2*win, c.b, 10)), wire.OutWindow)
			n.want("acknowledges what can't have been sent", pass(n, false, c.raw(false, ack, c.b, c.a+2*win, 0)), wire.OutWindow)
			n.want("inside", pass(n, true, c.call(ack, 1)), wire.OK)
		})
	}
}

// What a receiver has out of order from before the restart is acknowledged at
// once, when the one segment that it missed is repeated.
func TestRestartAmidALoss(t *testing.T) {
	g, c := newGW(t, allow), newTalk(redDB, grayDB)
	g.open(c)
	hole := c.a
	g.want("lost beyond us", g.out(c.call(ack, make([]byte, 1000)...)), wire.OK)
	for range 100 {
		g.want("not lost", g.out(c.call(ack, make([]byte, 1000)...)), wire.OK)
	}
	n := g.restarted(allow)
	n.want("duplicate ack", n.in(c.raw(false, ack, c.b, hole, 0)), wire.OK)
	n.want("the hole", n.out(c.raw(true, ack, hole, c.b, 1000)), wire.OK)
	n.want("all of it acknowledged", n.in(c.answer(ack)), wire.OK)
	n.want("and on", n.out(c.call(ack, 1)), wire.OK)
}

func TestRestartAmidTheHandshake(t *testing.T) {
	g, c := newGW(t, allow), newTalk(redDB, grayDB)
	g.want("syn", g.out(c.call(syn)), wire.OK)
	g = g.restarted(allow)
	g.want("syn-ack", g.in(c.answer(syn|ack)), wire.OK)
	g.wantState("syn-received")
	g = g.restarted(allow)
	g.want("ack", g.out(c.call(ack)), wire.OK)
	g.want("data", g.out(c.call(ack, 1)), wire.OK)
	g.want("its ack", g.in(c.answer(ack)), wire.OK)
	g.wantState("established")
	g.want("outside", g.out(c.raw(true, ack, c.a+1<<30, c.b, 10)), wire.OutWindow)
}

func TestRestartOfWhatHasEnded(t *testing.T) {
	g, c := newGW(t, allow), newTalk(redDB, grayDB)
	g.open(c)
	g.want("fin", g.out(c.call(fin|ack)), wire.OK)
	g.want("fin back", g.in(c.answer(fin|ack)), wire.OK)
	g.want("ack", g.out(c.call(ack)), wire.OK)
	g = g.restarted(allow)
	g.wantState("time-wait")
	g.want("a straggler", g.in(c.raw(false, fin|ack, c.b-1, c.a, 0)), wire.OK)
	n := newTalk(redDB, grayDB)
	n.a = 77
	g.open(n)
}

func TestTakeIsJudgedAnew(t *testing.T) {
	g := newGW(t, allow)
	g.open(newTalk(redDB, grayDB))
	var k, v []byte
	for key, value := range g.book.records {
		k, v = []byte(key), value
	}
	for _, tt := range []struct {
		name   string
		judge  judge
		change func(*Config)
		want   wire.Reason
	}{
		{"as it was", callsGray, func(*Config) {}, wire.OK},
		{"policy denies it now", deny, func(*Config) {}, wire.Denied},
		{"policy allows the other direction only", func(src, dst netip.Addr, p uint8, port uint16) *Rule { return callsGray(dst, src, p, port) }, func(*Config) {}, wire.Denied},
		{"the site is gone", allow, func(c *Config) { c.Sites[gray].Prefixes = nil }, wire.NoRoute},
		{"the link is gone", allow, func(c *Config) { c.Sites[gray].Linked = false }, wire.NoRoute},
		{"the subnet moved", allow, func(c *Config) { c.Sites[gray].Prefixes = c.Sites[red].Prefixes; c.Sites[red].Prefixes = nil }, wire.NoRoute},
		{"seen from gray", callsGray, func(c *Config) { c.Self = gray; c.Sites[red].Linked = true }, wire.OK},
		{"seen from blue", callsGray, func(c *Config) { c.Self = blue; c.Sites[red].Linked = true }, wire.Loop},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newGW(t, tt.judge, tt.change)
			if r, err := n.table.Take(k, v); r != tt.want || err != nil {
				t.Errorf("%v, %v; want %v", r, err, tt.want)
			}
			if r, err := n.table.Take(k, v); r != tt.want || err != nil {
				t.Errorf("again: %v, %v", r, err)
			}
			st := n.table.Stats()
			if want := tt.want == wire.OK; want != (st.TCP == 1) || want != (st.Restored == 1) || want != (len(n.book.records) == 1) {
				t.Errorf("%+v, %d records", st, len(n.book.records))
			}
		})
	}
}

func TestWhatIsRecorded(t *testing.T) {
	g := newGW(t, allow)
	c := newTalk(redDB, grayDB)
	g.open(c)
	if g.book.puts != 3 {
		t.Errorf("%d records for a handshake, want one a phase", g.book.puts)
	}
	for range 100 {
		g.out(c.call(ack, make([]byte, 1000)...))
	}
	if g.book.puts != 3 {
		t.Errorf("%d records after 100 packets", g.book.puts)
	}
	g.out(wiretest.UDP(redDB, grayDB, nil))
	if len(g.book.records) != 1 {
		t.Error("a question without an answer is recorded")
	}
	g.in(wiretest.UDP(grayDB, redDB, nil))
	g.in(wiretest.UDP(grayDB, redDB, nil))
	if len(g.book.records) != 2 || g.book.puts != 4 {
		t.Errorf("%d records after %d writes", len(g.book.records), g.book.puts)
	}
	g.out(wiretest.Echo(redDB.Addr(), grayDB.Addr(), false, 1, 1, nil))
	n := 0
	for k, v := range g.table.Records("gray") {
		if !bytes.Equal(g.book.records[string(k)], v) && parsedPhase(t, v) != tcptrack.Established {
			t.Errorf("a record that is not in the book: %x", k)
		}
		n++
	}
	for range g.table.Records("blue") {
		t.Error("a record of a site without flows")
	}
	if st := g.table.Stats(); n != 2 || st.Records != 2 || st.TCP != 1 || st.UDP != 1 || st.ICMP != 1 {
		t.Errorf("%d records, %+v", n, st)
	}
}

func parsedPhase(t *testing.T, v []byte) tcptrack.Phase {
	t.Helper()
	if len(v) != recordSize {
		t.Fatalf("a record of %d bytes", len(v))
	}
	return tcptrack.Phase(v[2])
}

// A record is written again before its positions are too old to be of use.
func TestRecordFollowsTheConnection(t *testing.T) {
	g, c := newGW(t, allow), newTalk(redDB, grayDB)
	g.open(c)
	now := g.now
	for sent := 0; sent < 3*int(recordBytes); {
		var p wire.Packet
		b := c.call(ack, make([]byte, 60000)...)
		wire.Parse(&p, b)
		g.table.pass(now, &p, true)
		sent += 60000
		wire.Parse(&p, c.answer(ack))
		g.table.pass(now, &p, false)
	}
	if got := g.book.puts - 3; got < 2 || got > 3 {
		t.Errorf("%d records for three times the distance", got)
	}
}

func TestParseRecordRefuses(t *testing.T) {
	g := newGW(t, allow)
	g.open(newTalk(redDB, grayDB))
	var k, v []byte
	for key, value := range g.book.records {
		k, v = []byte(key), value
	}
	change := func(b []byte, at int, x byte) []byte { b = bytes.Clone(b); b[at] = x; return b }
	swapped := slices.Concat(k[16:32], k[:16], k[34:36], k[32:34], k[36:])
	for name, kv := range map[string][2][]byte{
		"no key":               {nil, v},
		"a short key":          {k[:37], v},
		"a long key":           {append(bytes.Clone(k), 0), v},
		"ends out of order":    {swapped, v},
		"a family that is not": {change(k, 37, 2), v},
		"half an address":      {change(k, 5, 1), v},
		"icmp":                 {change(k, 36, 1), v},
		"no value":             {k, nil},
		"a later version":      {k, change(v, 0, 3)},
		"an earlier, too long": {k, change(v, 0, 1)},
		"options, no scales":   {k, change(v, 1, v[1]&^recTrusted|recPlain)},
		"a short value":        {k, v[:24]},
		"a long value":         {k, append(bytes.Clone(v), 0)},
		"an unknown flag":      {k, change(v, 1, 0x80)},
		"no phase":             {k, change(v, 2, 0)},
		"an unknown phase":     {k, change(v, 2, byte(tcptrack.Reset)+1)},
		"a far future":         {k, change(v, 3, 1)},
		"a scale of 15":        {k, change(v, 11, 15)},
		"another scale of 15":  {k, change(v, 16, 15)},
		"udp in a tcp state":   {change(k, 36, 17), v},
	} {
		if _, err := g.table.Take(kv[0], kv[1]); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	g := newGW(f, allow)
	g.open(newTalk(redDB, grayDB))
	g.open(newTalk(redDB6, grayDB6))
	g.out(newTalk(at("10.77.1.11:9"), grayDB).call(syn))
	g.out(wiretest.UDP(redDB, grayDB, nil))
	g.in(wiretest.UDP(grayDB, redDB, nil))
	for k, v := range g.book.records {
		f.Add([]byte(k), v)
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		fl, err := parseRecord(k, v)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatal(err)
			}
			return
		}
		k2 := fl.key.append(nil)
		if !bytes.Equal(k2, k) {
			t.Fatalf("key %x becomes %x", k, k2)
		}
		v2 := fl.appendRecord(nil)
		want := v
		if v[0] == 1 {
			want = append(bytes.Clone(v), 0, 0, 0, 0)
			want[0] = recordVersion
		}
		if !bytes.Equal(v2, want) {
			t.Fatalf("record %x becomes %x", v, v2)
		}
		n := newGW(t, allow)
		if r, err := n.table.Take(k, v); err != nil || r == wire.OK && n.table.Stats().Restored != 1 {
			t.Fatal(r, err)
		}
		n.now += time.Hour
		for c := range n.table.Conns() {
			if c.Age < 0 || c.Idle < 0 {
				t.Fatalf("%+v", c)
			}
		}
	})
}
