package link

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func ports(s ...string) (out []netip.AddrPort) {
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func TestDialBackoff(t *testing.T) {
	d := newDialling("192.0.2.1:51820")
	d.random = func() float64 { return 0.5 } // no jitter
	d.start(time.Minute)
	var waits []time.Duration
	for at, n := time.Minute, 0; n < 7; n++ {
		if next := d.next(); next != at {
			t.Fatalf("next %v, want %v", next, at)
		}
		if to, ok := d.due(at); !ok || to != ports("192.0.2.1:51820")[0] {
			t.Fatalf("due at %v: %v %v", at, to, ok)
		}
		if _, ok := d.due(at); ok {
			t.Fatal("due twice")
		}
		waits = append(waits, d.next()-at)
		at = d.next()
	}
	want := []time.Duration{1, 2, 4, 8, 15, 15, 15}
	for i := range want {
		want[i] *= time.Second
	}
	if !reflect.DeepEqual(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
	d.done()
	if d.next() != never {
		t.Error("it goes on after an answer")
	}
	d.start(time.Hour)
	if _, ok := d.due(time.Hour); !ok {
		t.Error("after a loss it doesn't dial at once")
	}
}

func TestDialNames(t *testing.T) {
	d := newDialling("gray.example:51820")
	d.random = func() float64 { return 0.5 }
	now := time.Minute
	d.start(now)
	if _, ok := d.due(now); ok {
		t.Fatal("dials an address that it doesn't know")
	}
	if d.next() != now || !d.lookup(now) || d.lookup(now) {
		t.Fatal("one lookup is wanted at once")
	}
	d.resolved(now, nil)
	if d.lookup(now) || !d.lookup(now+resolveEvery) {
		t.Fatal("a failed lookup is repeated too early or never")
	}
	now += resolveEvery
	d.resolved(now, ports("192.0.2.1:51820", "[2001:db8::1]:51820"))
	for _, want := range ports("192.0.2.1:51820", "[2001:db8::1]:51820", "192.0.2.1:51820") {
		if to, ok := d.due(now); !ok || to != want {
			t.Fatalf("%v %v, want %v", to, ok, want)
		}
		now = d.nextAt
	}
	at := d.nextAt
	if !d.lookup(now) {
		t.Fatal("a peer that doesn't answer is looked up again")
	}
	d.resolved(now, ports("[2001:db8::1]:51820", "192.0.2.1:51820"))
	if d.nextAt != at || d.addrs[d.index] != ports("192.0.2.1:51820")[0] {
		t.Error("the same addresses in another order change something")
	}
	d.resolved(now, ports("192.0.2.9:51820"))
	if to, ok := d.due(now); !ok || to != ports("192.0.2.9:51820")[0] {
		t.Error("a new address isn't dialled at once")
	}
}

func TestClockWatch(t *testing.T) {
	var c clockWatch
	noon := time.Unix(1e9, 0)
	c.used(noon)
	for _, tt := range []struct {
		now     time.Time
		behind  time.Duration
		changed bool
	}{
		{noon.Add(time.Second), 0, false},
		{noon.Add(-50 * time.Millisecond), 0, false}, // slewed
		{noon.Add(-time.Hour), time.Hour, true},
		{noon.Add(-time.Minute), time.Minute, false},
		{noon.Add(time.Minute), 0, true},
	} {
		if behind, changed := c.check(tt.now); behind != tt.behind || changed != tt.changed {
			t.Errorf("at %v: %v %v, want %v %v", tt.now.Sub(noon), behind, changed, tt.behind, tt.changed)
		}
	}
}

func TestParseGet(t *testing.T) {
	text := "private_key=aa\nlisten_port=51820\n" +
		"public_key=0100000000000000000000000000000000000000000000000000000000000000\nendpoint=192.0.2.1:1\n" +
		"last_handshake_time_sec=5\nlast_handshake_time_nsec=6\ntx_bytes=7\nrx_bytes=8\nallowed_ip=10.0.0.0/8\n" +
		"public_key=0200000000000000000000000000000000000000000000000000000000000000\nlast_handshake_time_sec=0\n"
	port, got := parseGet(text)
	want := map[[32]byte]wgPeer{
		{1}: {endpoint: "192.0.2.1:1", handshake: time.Unix(5, 6), tx: 7, rx: 8},
		{2}: {},
	}
	if port != 51820 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d %+v", port, got)
	}
}
