package legs

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// eachWay runs a test over both families, with whole segments and with small ones.
func eachWay(t *testing.T, test func(d *duo, addr netip.Addr)) {
	for _, c := range []struct {
		name    string
		addr    netip.Addr
		mtu     int
		offload bool
	}{
		{"v4", gray4, 1400, false},
		{"v6, offloads", gray6, 1400, true},
		{"v4, whole segments", gray4, 65000, true},
	} {
		t.Run(c.name, func(t *testing.T) { test(newDuo(t, c.mtu, c.offload), c.addr) })
	}
}

const bulkBytes = 4 << 20 / slowdown

// Bulk both ways at once, relayed from the third packet on, with the FINs of both.
func TestDuoBulk(t *testing.T) {
	for _, last := range []bool{false, true} {
		t.Run(fmt.Sprintf("both close at last %t", last), func(t *testing.T) {
			eachWay(t, func(d *duo, addr netip.Addr) {
				caller, called := d.connect(addr, bulkBytes, bulkBytes)
				d.mustAdopt(0)
				d.talk(caller, called, last).wait()
				// It ends by itself, when both know of both ends.
				d.Await(t, "end of the relay", d.isRaw)
				d.wantEnds(endOver, endIdle, endThere)
			})
		})
	}
}

// wantEnds checks that the relays have ended by nothing else. On a machine that is
// busy with other things a relay may have to wait for what it takes for broken. And a
// database whose FIN is not acknowledged within some round trips says it again (the
// tail loss probe, RFC 8985), the answer to which its closed endpoint resets: that
// comes after everything that should be read, or reading has failed the test.
func (d *duo) wantEnds(want ...End) {
	d.Helper()
	want = append(want, endReset)
	if time.Since(d.clock.start) > patience {
		want = append(want, endStall, endNoAnswer, endTrunk)
	}
	for _, s := range d.site {
		s.mu.Lock()
		for _, e := range s.ended {
			ok := false
			for _, w := range want {
				ok = ok || e.Cause == w.Cause
			}
			if !ok {
				d.Errorf("site %d: ended by %+v", s.i, e)
			}
		}
		s.mu.Unlock()
	}
}

// A connection is adopted at any moment in mid-stream, with bytes in flight both ways.
func TestDuoAdoptInMidStream(t *testing.T) {
	eachWay(t, func(d *duo, addr netip.Addr) {
		caller, called := d.connect(addr, bulkBytes, bulkBytes)
		tr := d.talk(caller, called, true)
		d.Await(t, "bytes both ways", func() bool { return tr.got[0].Load() > bulkBytes/8 && tr.got[1].Load() > bulkBytes/8 })
		d.mustAdopt(1)
		tr.wait()
		if n := d.site[0].count() + d.site[1].count(); n == 0 {
			t.Error("no segment passed the legs")
		}
	})
}

// The same, with every third raw packet lost around that moment.
func TestDuoAdoptWithLoss(t *testing.T) {
	eachWay(t, func(d *duo, addr netip.Addr) {
		caller, called := d.connect(addr, bulkBytes, bulkBytes)
		tr := d.talk(caller, called, true)
		d.Await(t, "bytes both ways", func() bool { return tr.got[0].Load() > bulkBytes/16 && tr.got[1].Load() > bulkBytes/16 })
		var seen, lost atomic.Int64
		lose := func(int, *wire.Packet) bool {
			if seen.Add(1)%3 > 0 || lost.Load() > 60 {
				return false
			}
			lost.Add(1)
			return true
		}
		d.lose.Store(&lose)
		d.Await(t, "loss", func() bool { return lost.Load() > 10 || tr.done.Load() > 0 })
		d.mustAdopt(0)
		d.lose.Store(nil)
		tr.wait()
		t.Logf("lost %d raw packets; ends %+v %+v", lost.Load(), d.site[0].ended, d.site[1].ended)
	})
}

// At a quiet moment there is nothing in flight; and again after each release for
// idleness.
func TestDuoIdle(t *testing.T) {
	d := newDuo(t, 1400, true)
	caller, called := d.connect(gray4, 100<<10, 100<<10)
	buf := make([]byte, 10<<10)
	for i := range 5 {
		d.mustAdopt(i % 2)
		for k, c := range []interface {
			Write([]byte) (int, error)
		}{caller, called} {
			if _, err := c.Write(d.site[k].said[i*len(buf) : (i+1)*len(buf)]); err != nil {
				t.Fatal(err)
			}
		}
		for k, c := range []interface {
			Read([]byte) (int, error)
		}{called, caller} {
			for got := 0; got < len(buf); {
				n, err := c.Read(buf[got:])
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
			if want := d.site[k].said[i*len(buf) : (i+1)*len(buf)]; string(want) != string(buf) {
				t.Fatal("something else was heard")
			}
		}
		// Nothing moves until the time has come.
		d.Await(t, "end of the relay", func() bool {
			d.clock.advance(20 * time.Millisecond)
			return d.isRaw()
		})
		d.wantEnds(endIdle, endThere)
	}
	for _, s := range d.site {
		if st := s.legs.Stats(); st.Made != 5 || st.Ends[endIdle.Cause]+st.Ends[endThere.Cause] != 5 {
			t.Errorf("site %d: %+v", s.i, st)
		}
	}
}

// Released at random moments, raw for a while, and adopted again, many times in one
// transfer: nothing is lost, repeated to the application, or reset.
func TestDuoReleaseAndAdopt(t *testing.T) {
	rounds := 40 / min(slowdown, 2)
	if testing.Short() {
		rounds = 10
	}
	eachWay(t, func(d *duo, addr netip.Addr) {
		size := 2 * bulkBytes
		caller, called := d.connect(addr, size, size)
		tr := d.talk(caller, called, true)
		rng := rand.New(rand.NewPCG(5, uint64(size)))
		adopted := 0
		for i := range rounds {
			d.Await(t, "relay", func() bool {
				if d.relayed() || tr.done.Load() > 0 {
					return true
				}
				_ = d.adopt(i % 2)
				return false
			})
			if tr.done.Load() > 0 {
				break
			}
			adopted++
			// Let some bytes pass, in either state.
			for _, state := range []func(){
				func() { d.site[rng.IntN(2)].legs.ReleaseAll(EndMoved) },
				func() {},
			} {
				more := tr.got[0].Load() + tr.got[1].Load() + rng.Int64N(200<<10/slowdown)
				d.Await(t, "progress", func() bool { return tr.got[0].Load()+tr.got[1].Load() >= more || tr.done.Load() > 0 })
				state()
			}
		}
		d.Await(t, "end", func() bool {
			_ = d.adopt(0)
			return tr.done.Load() == 4
		})
		tr.wait()
		t.Logf("adopted %d times", adopted)
		if adopted < 2 {
			t.Error("hardly ever adopted")
		}
	})
}

// One side closes while the other goes on with bulk.
func TestDuoHalfClose(t *testing.T) {
	for _, who := range []string{"caller", "called"} {
		t.Run(who+" closes first", func(t *testing.T) {
			eachWay(t, func(d *duo, addr netip.Addr) {
				red, gray := 1000, bulkBytes
				if who == "called" {
					red, gray = bulkBytes, 0
				}
				caller, called := d.connect(addr, red, gray)
				d.mustAdopt(0)
				d.talk(caller, called, false).wait()
				d.Await(t, "end of the relay", d.isRaw)
				d.wantEnds(endOver, endIdle, endThere)
				for _, s := range d.site {
					if s.fins != 1 {
						t.Errorf("the FIN of site %d was written %d times", s.i, s.fins)
					}
				}
			})
		})
	}
}

// A database that resets in the middle: the other one hears what was said before, and
// the RST, which passes once; nothing is said to it after that.
func TestDuoReset(t *testing.T) {
	for who := range 2 {
		t.Run(fmt.Sprintf("site %d", who), func(t *testing.T) {
			eachWay(t, func(d *duo, addr netip.Addr) {
				caller, called := d.connect(addr, 60<<10, 60<<10)
				d.mustAdopt(0)
				var rsts, written atomic.Int64
				teller := d.site[1-who] // what is written to the one that resets is counted there
				count := func(from int, p *wire.Packet) bool {
					if p.Flags&wire.RST != 0 && from == who && rsts.Add(1) == 1 {
						written.Store(int64(teller.count()))
					}
					return false
				}
				d.lose.Store(&count)
				one, other := caller, called
				if who == 1 {
					one, other = called, caller
				}
				bytes := d.site[who].said
				if _, err := one.Write(bytes); err != nil {
					t.Fatal(err)
				}
				got := 0
				buf := make([]byte, 64<<10)
				for got < len(bytes) {
					n, err := other.Read(buf)
					if err != nil {
						t.Fatalf("after %d: %v", got, err)
					}
					got += n
				}
				if err := one.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
					t.Fatal(err)
				}
				one.Close()
				if _, err := other.Read(buf); err == nil {
					t.Error("no end")
				}
				d.Await(t, "end of the relay", d.isRaw)
				d.wantEnds(endReset, endIdle, endThere, endTrunk)
				// What reaches a database that has gone makes it say RST again.
				d.site[who].witness.Lock()
				said := d.site[who].resets
				d.site[who].witness.Unlock()
				if n := rsts.Load(); n == 0 || n > int64(said) {
					t.Errorf("%d RSTs crossed the link, and %d were said", n, said)
				}
				// One may have been on its way while the RST was heard.
				if n := int64(teller.count()) - written.Load(); n > 1 {
					t.Errorf("%d segments were written after the RST", n)
				}
			})
		})
	}
}

// A trunk that stands still is given up, and the connection goes on raw.
func TestDuoTrunkStalls(t *testing.T) {
	d := newDuo(t, 1400, true)
	caller, called := d.connect(gray4, bulkBytes, bulkBytes)
	tr := d.talk(caller, called, true)
	d.mustAdopt(0)
	d.mu.Lock()
	trunk := d.trunks[len(d.trunks)-1]
	d.mu.Unlock()
	trunk.stall(true)
	d.Await(t, "release", func() bool {
		d.clock.advance(50 * time.Millisecond)
		return d.isRaw() || tr.done.Load() == 4
	})
	tr.wait()
}
