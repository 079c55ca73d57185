package trunk

import (
	"errors"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// However much some peers take, together they stay within the budget, and one that comes later
// finds a share.
func TestBudgetIsShared(t *testing.T) {
	for hogs := range 4 {
		b := &budget{limit: 1 << 20}
		accounts := make([]account, hogs)
		for i := range accounts {
			accounts[i].budget = b
			for accounts[i].take(1000) {
			}
		}
		// And again, since those that came first took what was there then.
		for i := range accounts {
			for accounts[i].take(1000) {
			}
		}
		late := account{budget: b}
		for late.take(1000) {
		}
		if share := b.limit / int64(1<<(hogs+1)); late.used < share-2000 {
			t.Errorf("with %d others that take all they get, one gets %d of %d bytes", hogs, late.used, b.limit)
		}
		sum := late.used
		for i := range accounts {
			sum += accounts[i].used
			accounts[i].give(int(accounts[i].used))
		}
		if sum != b.used.Load()+sumOf(accounts)+sum-late.used || sum > b.limit {
			t.Errorf("%d bytes of %d are taken", sum, b.limit)
		}
		if late.give(int(late.used)); b.used.Load() != 0 {
			t.Errorf("%d bytes are left", b.used.Load())
		}
	}
}

func sumOf(accounts []account) (n int64) {
	for i := range accounts {
		n += accounts[i].used
	}
	return n
}

// One peer's hoard leaves the streams to another what they need.
func TestHogLeavesRoom(t *testing.T) {
	p := New(Config{Self: red, Wake: func() {}, Memory: 4 << 20})
	hog, other := newPath(p, red, gray, time.Second), newPath(p, red, blue, time.Second)
	for ended := false; !ended; {
		c := hog.open()
		for c.err == nil && c.hasRoom() {
			if room, err := c.Begin(64 << 10); err != nil || !room {
				ended = true
				break
			}
			_, _ = c.Write(noise[:64<<10])
			if err := c.Commit(&wire.Frame{Kind: wire.FrameData}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if st := p.Stats(); st.Memory > st.MaxMemory/2 || st.Memory < st.MaxMemory/4 || st.Exhausted != 0 {
		t.Errorf("one peer: %+v", st)
	}
	more := hog.open()
	if room, err := more.Begin(64 << 10); room || !errors.Is(err, errMemory) || p.Stats().Exhausted != 1 {
		t.Errorf("another stream to it: room %v, %v; %+v", room, err, p.Stats())
	}
	c := other.open()
	if err := c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:wire.MaxFramePayload]}); err != nil {
		t.Errorf("another peer: %v", err)
	}
	check(t, hog)
	check(t, other)
}

// When the budget is used up, a stream with something under way waits for acknowledgements and
// then goes on.
func TestBudgetUsedUp(t *testing.T) {
	s := newSim(t, quick)
	s.ends[0].path.pool.budget.limit = 300 << 10
	const total = 4 << 20
	st := s.stream(0)
	waited := 0
	for until := s.now + time.Minute; st.got < total; {
		if s.now > until {
			t.Fatalf("%d of %d bytes have come", st.got, total)
		}
		for st.seq < total {
			room, err := st.out.Begin(simFrame)
			if err != nil {
				t.Fatal(err)
			}
			if !room {
				if st.out.out.wrote-st.out.out.sent < Backlog {
					waited++
				}
				break
			}
			at := st.seq % simPeriod
			_, _ = st.out.Write(simText[at : at+simFrame])
			if err := st.out.Commit(&wire.Frame{Kind: wire.FrameData, Seq: st.seq}); err != nil {
				t.Fatal(err)
			}
			st.seq += simFrame
		}
		s.step()
		st.drain(t, s, 1)
		check(t, s.ends[0].path)
	}
	if n := s.ends[0].path.pool.budget.refused.Load(); waited == 0 || n > 0 {
		t.Errorf("it has waited %d times for memory; %d streams have ended", waited, n)
	}
}

// A stream that waits for memory is called when an acknowledgement makes room, and so is Send.
func TestRoomAfterAcknowledgement(t *testing.T) {
	l := newLink()
	w := l.paths[0]
	w.pool.budget.limit = 256 << 10 // half of it is one peer's
	c := w.open()
	called := 0
	c.Serve(func() { called++ }, func() {}, func() {})
	for {
		room, err := c.Begin(60 << 10)
		if err != nil {
			t.Fatal(err)
		}
		if !room {
			break
		}
		_, _ = c.Write(noise[:60<<10])
		if err := c.Commit(&wire.Frame{Kind: wire.FrameData}); err != nil {
			t.Fatal(err)
		}
	}
	if c.out.wrote-c.out.sent >= Backlog || called > 0 {
		t.Fatalf("%d bytes wait, called %d times: the memory is not what is short", c.out.wrote-c.out.sent, called)
	}
	for range 10 {
		l.pass(t)
	}
	if called == 0 {
		t.Error("it is not called when there is memory again")
	}
}
