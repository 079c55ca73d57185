package hello

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// FuzzPeer feeds sequences of messages, steps of time and the owner's calls to a Peer whose link
// carries an honest peer's hellos as well. data holds operations: a byte that names one, and what
// it needs.
//
// Without a proof nothing changes: the link stays up and no event occurs. A party with the peer's
// key may do more, and then the events and messages of a time, and what is kept, have a bound.
func FuzzPeer(f *testing.F) {
	f.Add([]byte{})
	for _, m := range samples() {
		b := appendMessage(nil, &m)
		f.Add(append([]byte{0, byte(len(b)), byte(len(b) >> 8)}, b...))
	}
	f.Add([]byte{1, 0, 1, 9, 1, 1, 2, 9, 4, 255, 1, 3, 3, 200, 4, 255})
	f.Add([]byte{2, 9, 4, 200, 2, 9, 4, 200, 2, 9, 4, 200, 2, 9, 4, 255, 2, 2})
	f.Add([]byte{3, 1, 4, 1, 3, 2, 4, 1, 3, 1, 4, 1, 3, 3, 4, 1, 3, 4, 3, 5, 3, 6, 3, 7, 3, 8})
	f.Add([]byte{5, 1, 4, 9, 5, 2, 4, 9, 6, 1, 3, 9, 6, 2, 7, 1, 7, 200, 8, 0, 4, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSim(t, 1, func(i int, c *Config) { c.Sections = sections(1, byte(i)) })
		s.up()
		s.must("up", time.Second, s.both(Up))
		s.run(3*time.Second, nil)
		s.events, s.sent = [2][]Event{}, [2]int{}
		p, start, proven, calls := s.peers[0], s.now, false, 0
		next := func(n int) []byte {
			b := make([]byte, n)
			data = data[copy(b, data):]
			return b
		}
		deliver := func(b []byte) {
			o, err := p.Handle(s.now, "192.0.2.66:6", b)
			var v *VersionError
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownType) && !errors.As(err, &v) {
				t.Fatalf("error of no kind: %v", err)
			}
			s.do(0, o)
		}
		for range 300 {
			if len(data) == 0 {
				break
			}
			op := next(2)
			arg := op[1]
			switch op[0] % 9 {
			case 0: // any bytes
				deliver(next(int(arg) | int(next(1)[0])<<8&0x300))
			case 1: // a hello of a process, in any order
				deliver(forged(uint64(arg)+1, uint32(next(1)[0]), nil))
			case 2: // another version
				deliver([]byte{'g', 'w', 'h', arg | 2, 1, 0, 0, 0})
			case 3: // a hello with a proof, from any process
				proven = true
				deliver(forged(uint64(arg)+1, binary.BigEndian.Uint32(next(4)), &echoMsg{boot: p.cfg.Boot, nonce: p.nonces.next(s.now), hold: time.Duration(arg)}))
			case 4: // time
				s.run(time.Duration(arg)*time.Duration(arg)*time.Millisecond/16, nil)
			case 5: // requests
				deliver(appendMessage(nil, &message{kind: kindWant, want: wantMsg{section: "link", offset: uint16(arg)}}))
				deliver(appendMessage(nil, &message{kind: kindProbe, probe: probeMsg{id: uint32(arg), size: 1400}}))
			case 6: // answers that nothing asked for
				deliver(appendMessage(nil, &message{kind: kindAck, probe: probeMsg{id: uint32(arg), size: 1420}}))
				deliver(appendMessage(nil, &message{kind: kindAttrs, attrs: attrsMsg{section: "link", digest: sectionDigest{arg}, total: 3, attrs: []Attr{{Name: "a"}}}}))
			case 7: // the owner's calls
				calls++
				s.do(0, p.TooBig(s.now))
				s.do(0, p.Probe(s.now))
			case 8:
				calls++
				s.do(0, p.SetSections(s.now, sections(1, arg)))
			}
		}
		if got := p.Snapshot(s.now); !proven {
			if got.State != Up || got.Software != "test" || got.Duplicate {
				t.Errorf("nothing was proven, and the peer is %v, of %q, duplicate %v", got.State, got.Software, got.Duplicate)
			}
			for _, e := range s.events[0] {
				if e != EventMTU && (e != EventDifferences || calls == 0) {
					t.Errorf("nothing was proven: %v", s.events[0])
				}
			}
		}
		seconds := int((s.now-start)/time.Second) + 1
		for e, most := range map[Event]int{
			EventRestarted: restartBurst + seconds, EventRefused: restartBurst + 2*seconds, EventUp: 2*restartBurst + 4*seconds,
			EventLost: restartBurst + 8*seconds + calls, EventSilent: 1 + seconds, EventMTU: 64 + 40*seconds,
			EventDifferences: 2*changeBurst + restartBurst + 2*seconds + 2*calls,
		} {
			if n := count(s.events[0], e); n > most {
				t.Errorf("%d times %v in %d s, want at most %d", n, e, seconds, most)
			}
		}
		if most := 3*answerBurst + challengeBurst + 8*pmtuParallel + 150*seconds + 40*calls; s.sent[0] > most {
			t.Errorf("%d messages in %d s, want at most %d", s.sent[0], seconds, most)
		}
		kept := len(p.cmp.result)
		for _, l := range p.cmp.lists {
			kept += len(l.attrs)
		}
		if p.cmp.fetch != nil {
			kept += len(p.cmp.fetch.got)
		}
		if kept > MaxAttrs+maxDifferences || len(p.cmp.lists) > MaxSections {
			t.Errorf("%d attributes of %d sections are kept", kept, len(p.cmp.lists))
		}
	})
}
