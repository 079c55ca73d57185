package flow

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

func TestLimits(t *testing.T) {
	const limit = 64
	limited := func(c *Config) { c.MaxFlows = limit }
	udp := func(i int, fromRed bool) []byte {
		a, b := netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), netip.AddrPortFrom(grayDB.Addr(), 53)
		if !fromRed {
			a, b = netip.AddrPortFrom(grayDB.Addr(), uint16(1000+i)), netip.AddrPortFrom(redDB.Addr(), 53)
		}
		return wiretest.UDP(a, b, nil)
	}
	answer := func(i int) []byte {
		return wiretest.UDP(netip.AddrPortFrom(grayDB.Addr(), 53), netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), nil)
	}
	t.Run("one site leaves room for the others", func(t *testing.T) {
		g := newGW(t, allow, limited)
		for i := range limit * 3 / 4 {
			g.want("open", g.out(udp(i, true)), wire.OK)
			g.want("answer", g.in(answer(i)), wire.OK)
		}
		g.want("one more", g.out(udp(limit, true)), wire.SiteFull)
		for i := range limit / 4 {
			g.want("the other site", g.in(udp(i, false)), wire.OK)
			answer := wiretest.UDP(netip.AddrPortFrom(redDB.Addr(), 53), netip.AddrPortFrom(grayDB.Addr(), uint16(1000+i)), nil)
			g.want("answer", g.out(answer), wire.OK) // a flow without one would give way in its shard
		}
		g.want("full", g.out(udp(limit, true)), wire.TableFull)
		if st := g.table.Stats(); st.UDP != limit || st.Limit != limit {
			t.Errorf("%+v", st)
		}
		g.want("what is known passes", g.out(udp(0, true)), wire.OK)
	})
	t.Run("a flood gives way", func(t *testing.T) {
		g := newGW(t, allow, limited)
		// Each shard gets its share, so that one to give up is found in each.
		for i := range 40 * limit {
			if r := g.in(newTalk(netip.AddrPortFrom(grayDB.Addr(), uint16(1000+i)), redDB).call(syn)); r != wire.OK && r != wire.SiteFull {
				t.Fatal(r)
			}
		}
		passed := 0
		for i := range 20 {
			if g.out(newTalk(netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), grayDB).call(syn)) == wire.OK {
				passed++
			}
		}
		if n := g.table.Stats().TCP; n > limit || passed < 16 {
			t.Errorf("%d flows of at most %d, %d of 20 calls passed", n, limit, passed)
		}
	})
	t.Run("what has ended gives way", func(t *testing.T) {
		g := newGW(t, allow, func(c *Config) { c.MaxFlows = 2 }) // one for each site
		c := newTalk(grayDB, redDB)
		g.want("syn", g.in(c.call(syn)), wire.OK)
		g.want("refused", g.out(c.raw(false, rst|ack, 0, c.a, 0)), wire.OK)
		n := newTalk(grayDB, redDB)
		n.a = 7
		g.want("the same tuple", g.in(n.call(syn)), wire.OK)
	})
}

// Nothing that goes on at once with anything else breaks.
func TestConcurrency(t *testing.T) {
	g := newGW(t, allow, func(c *Config) { c.MaxFlows = 200 })
	start := time.Now()
	g.table.cfg.Now = func() time.Duration { return time.Since(start) * 1000 } // flows time out
	ctx, cancel := context.WithCancel(context.Background())
	var tasks, feeders sync.WaitGroup
	task := func(wg *sync.WaitGroup, f func()) {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	task(&tasks, func() {
		if err := g.table.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	task(&tasks, func() {
		bufs, sizes := make([][]byte, 8), make([]int, 8)
		for i := range bufs {
			bufs[i] = make([]byte, 2000)
		}
		for {
			if _, err := g.path.Read(bufs, sizes, 16); errors.Is(err, os.ErrClosed) {
				return
			} else if err != nil {
				t.Error(err)
				return
			}
		}
	})
	talkFrom := func(port int) *talk {
		return newTalk(netip.AddrPortFrom(redDB.Addr(), uint16(port)), grayDB)
	}
	const rounds = 200
	task(&feeders, func() {
		for i := range rounds {
			c := talkFrom(1000 + i%50)
			g.host.send(c.call(syn), wire.Offload{})
			c.b = 900001
			b, o := super(c, 4000)
			g.host.send(b, o)
			g.host.send(wiretest.UDP(c.src, grayDB, make([]byte, 1450)), wire.Offload{})
		}
	})
	for peer := range 2 {
		task(&feeders, func() {
			for i := range rounds {
				c := talkFrom(1000 + (i+peer)%50)
				c.a = 1001
				var batch [][]byte
				for _, b := range [][]byte{c.answer(syn | ack), c.answer(ack, make([]byte, 500)...), c.answer(ack, make([]byte, 500)...),
					wiretest.UDP(grayDB, c.src, nil), newTalk(grayDB, netip.AddrPortFrom(redDB.Addr(), uint16(i))).call(syn)} {
					batch = append(batch, append(make([]byte, 16), b...))
				}
				g.path.Write(batch, 16)
				g.host.written()
			}
		})
	}
	task(&feeders, func() {
		var ks, vs [][]byte
		for i := range rounds {
			g.path.SetSite(gray, SiteState{Up: i%3 > 0, MTU: 1300 + i, Partial: i%2 > 0})
			for range g.table.Conns() {
			}
			for k, v := range g.table.Records("") {
				ks, vs = append(ks[:0], append([]byte(nil), k...)), append(vs[:0], append([]byte(nil), v...))
			}
			for j := range ks {
				if _, err := g.table.Take(ks[j], vs[j]); err != nil {
					t.Error(err)
				}
			}
			g.table.Stats()
			g.table.sweep(g.table.cfg.Now())
			g.path.Wake()
		}
	})
	feeders.Wait()
	g.host.setClosed(true)
	cancel()
	tasks.Wait()
	n := 0
	for range g.table.Conns() {
		n++
	}
	if total := g.table.opener[red].Load() + g.table.opener[gray].Load(); int(g.table.count.Load()) != n || total != int64(n) {
		t.Errorf("%d flows, counted %d and %d by opener", n, g.table.count.Load(), total)
	}
}

func TestShardsAreUsedEvenly(t *testing.T) {
	table := newGW(t, allow).table
	for name, make := range map[string]func(i int) key{
		"ports": func(i int) key { return keyFor(redDB.Addr(), uint16(32768+i), grayDB.Addr(), 5432) },
		"hosts": func(i int) key {
			return keyFor(ip(fmt.Sprintf("10.77.1.%d", i%256)), 40000+uint16(i/256), grayDB.Addr(), 5432)
		},
		"v6 ports":  func(i int) key { return keyFor(redDB6.Addr(), uint16(32768+i), grayDB6.Addr(), 5432) },
		"every 2nd": func(i int) key { return keyFor(redDB.Addr(), uint16(32768+2*i), grayDB.Addr(), 5432) },
	} {
		used := map[*shard]int{}
		const n = 64 * shards
		for i := range n {
			k := make(i)
			used[table.shardOf(&k)]++
		}
		most := 0
		for _, c := range used {
			most = max(most, c)
		}
		if most > 3*n/shards {
			t.Errorf("%s: %d of %d keys in one of %d shards", name, most, n, shards)
		}
	}
}

func keyFor(src netip.Addr, sp uint16, dst netip.Addr, dp uint16) key {
	k, _ := keyOfQuoted(&wire.Quoted{Src: src, Dst: dst, Proto: wire.ProtoTCP, SrcPort: sp, DstPort: dp})
	return k
}

// FuzzPath sends anything from both sides: nothing leaves that policy and the
// anti-spoofing rules don't allow, and nothing panics.
func FuzzPath(f *testing.F) {
	c := newTalk(redDB, grayDB)
	big, _ := super(newTalk(redDB, grayDB), 5000)
	for _, b := range [][]byte{
		c.call(syn), c.answer(syn | ack), c.call(ack), c.call(ack|psh, 1, 2, 3), c.answer(fin | ack), c.raw(true, rst, c.a, 0, 0), big,
		newTalk(redDB6, grayDB6).call(syn), wiretest.UDP(redDB, grayDB, make([]byte, 1500)), wiretest.UDP(grayDB6, redDB6, nil),
		wiretest.Echo(redDB.Addr(), grayDB.Addr(), false, 1, 1, nil), wiretest.ICMP(grayDB.Addr(), redDB.Addr(), 3, 4, 1300, c.call(ack)),
		wiretest.IP(redDB.Addr(), grayDB.Addr(), 47, make([]byte, 9)),
	} {
		f.Add(b, b, uint16(0), uint16(20), uint16(16), byte(0))
		f.Add(b, c.answer(ack), uint16(1368), uint16(20), uint16(16), byte(1))
		f.Add(b, c.call(syn), uint16(9), uint16(40), uint16(6), byte(3))
	}
	f.Fuzz(func(t *testing.T, out, in []byte, gso, start, offset uint16, flags byte) {
		if len(out) == 0 || len(out) > 65535 || len(in) > 65535 {
			return
		}
		judged := map[string]bool{}
		g := newGW(t, func(src, dst netip.Addr, proto uint8, port uint16) *Rule {
			if port%2 == 1 {
				return nil
			}
			judged[fmt.Sprint(src, dst, proto)] = true
			judged[fmt.Sprint(dst, src, proto)] = true
			return someRule
		})
		g.path.SetSite(gray, SiteState{Up: true, Partial: flags&4 != 0})
		check := func(b []byte, fromHost bool) {
			p := parsed(t, b)
			src, dst := g.table.siteOf(p.Src()), g.table.siteOf(p.Dst())
			from, to := gray, red
			if fromHost {
				from, to = to, from
			}
			if src != from || dst != to {
				t.Fatalf("from %v to %v let through", p.Src(), p.Dst())
			}
			if !judged[fmt.Sprint(p.Src(), p.Dst(), p.Proto)] && !p.IsICMPError() && !p.Fragment {
				t.Fatalf("%v to %v, protocol %d was never allowed", p.Src(), p.Dst(), p.Proto)
			}
		}
		o := wire.Offload{NeedsCsum: flags&1 != 0, CsumValid: flags&2 != 0, CsumStart: start, CsumOffset: offset}
		if o.NeedsCsum {
			o.GSOSize = gso
		}
		for range 2 {
			g.host.send(out, o)
			for _, b := range g.readAll() {
				check(b, true)
			}
			for _, w := range g.host.written() {
				// The gateway's own answer: an ICMP error.
				if !parsed(t, w.b).IsICMPError() {
					t.Fatal("something else was said to the host")
				}
			}
			g.path.Write([][]byte{append(make([]byte, 16), in...), append(make([]byte, 16), in...)}, 16)
			for _, w := range g.host.written() {
				check(w.b, false)
			}
			for _, b := range g.readAll() {
				if !parsed(t, b).IsICMPError() {
					t.Fatal("something else was said to the link")
				}
			}
		}
	})
}

// TestShardsAreKeyed: flows spread over the shards whichever parts of their addresses and
// ports differ, and differently in each process: a host can't choose its shard.
func TestShardsAreKeyed(t *testing.T) {
	one, other := newGW(t, allow).table, newGW(t, allow).table
	const n = 64 * shards
	for name, change := range map[string]func(k *key, i int){
		"source ports":                             func(k *key, i int) { k.pa = uint16(i) },
		"middle of the address":                    func(k *key, i int) { k.a[8], k.a[9] = byte(i>>8), byte(i) },
		"31 source ports for 17 destination ports": func(k *key, i int) { k.pa, k.pb = uint16(17*i), uint16(1<<15-31*i) },
	} {
		load := map[*shard]int{}
		index := map[*shard]int{}
		for i := range one.shard {
			index[&one.shard[i]], index[&other.shard[i]] = i, i
		}
		same := 0
		for i := range n {
			k := key{a: redDB6.Addr().As16(), b: grayDB6.Addr().As16(), pa: 1024, pb: 5432, proto: wire.ProtoTCP, v6: true}
			change(&k, i)
			load[one.shardOf(&k)]++
			if index[one.shardOf(&k)] == index[other.shardOf(&k)] {
				same++
			}
		}
		// 64 are expected, with a deviation of 8 where all shards are as likely.
		for s, count := range load {
			if count > 128 {
				t.Errorf("%s: shard %d has %d of %d flows", name, index[s], count, n)
			}
		}
		if same > n/8 {
			t.Errorf("%s: %d of %d flows are in the same shard in another process", name, same, n)
		}
	}
}

func BenchmarkShardOf(b *testing.B) {
	t := newGW(b, allow).table
	k, _ := keyBetween(redDB, grayDB)
	b.ReportAllocs()
	for b.Loop() {
		k.pa++
		t.shardOf(&k)
	}
}
