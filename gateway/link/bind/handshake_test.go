package bind

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"
)

// makeInitiation makes an initiation to the holder of a public key, well-formed
// but for its cryptography.
func makeInitiation(t testing.TB, to [32]byte, sender uint32) []byte {
	t.Helper()
	m := make([]byte, sizeInitiation)
	m[0] = typeInitiation
	binary.LittleEndian.PutUint32(m[4:], sender)
	return addMAC1(t, m, to)
}

// addMAC1 completes a handshake message to the holder of a public key.
func addMAC1(t testing.TB, m []byte, to [32]byte) []byte {
	t.Helper()
	key := blake2s.Sum256(append([]byte("mac1----"), to[:]...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		t.Fatal(err)
	}
	at := len(m) - 32
	h.Write(m[:at])
	copy(m[at:], h.Sum(nil))
	return m
}

// place is an Endpoint that nothing is sent to.
type place struct{ Endpoint }

var (
	mayKey     = [32]byte{1}
	mayNotKey  = [32]byte{2}
	unknownKey = [32]byte{3}
	testPeers  = []Peer{{PublicKey: mayNotKey}, {PublicKey: mayKey, MayDial: true}}
)

func TestInitiatePolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		to   [32]byte
		want bool
	}{
		{"a peer to dial", mayKey, true},
		{"a peer not to dial", mayNotKey, false},
		{"a stranger", unknownKey, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDialler(testPeers, func() float64 { return 0.5 })
			now := time.Unix(1000, 0)
			if _, got := d.initiate(makeInitiation(t, c.to, 7), &place{}, now); got != c.want {
				t.Errorf("initiate = %v, want %v", got, c.want)
			}
			if _, wake := d.next(now, nil); wake.IsZero() == c.want {
				t.Errorf("next wake %v", wake)
			}
		})
	}
}

// repeatTimes runs the dialler's own clock until nothing is pending, and
// returns when it repeated, from start.
func repeatTimes(d *dialler, start time.Time) (at []time.Duration, messages []repetition) {
	now := start
	for {
		due, wake := d.next(now, nil)
		for _, r := range due {
			at = append(at, now.Sub(start))
			messages = append(messages, r)
		}
		if wake.IsZero() {
			return at, messages
		}
		now = wake
	}
}

func TestRepetition(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name        string
		random      float64
		first, then time.Duration
	}{
		{"middle", 0.5, 250 * ms, 500 * ms},
		{"soonest", 0, 200 * ms, 400 * ms},
		{"latest", 1, 300 * ms, 600 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDialler(testPeers, func() float64 { return c.random })
			start := time.Unix(1000, 0)
			m := makeInitiation(t, mayKey, 7)
			to := &place{}
			d.initiate(m, to, start)
			at, messages := repeatTimes(d, start)
			var want []time.Duration
			for i := range repeatAfter {
				want = append(want, c.first+time.Duration(i)*c.then)
			}
			if last := want[len(want)-1]; last < 12*time.Second {
				t.Errorf("the last repetition comes after %v, and a new initiation after up to 18 s", last)
			}
			if len(at) != len(want) {
				t.Fatalf("repeated at %v, want %v", at, want)
			}
			for i := range at {
				if diff := at[i] - want[i]; diff < -ms || diff > ms {
					t.Errorf("repeated at %v, want %v", at, want)
				}
				if messages[i].message != [sizeInitiation]byte(m) || messages[i].to != to {
					t.Error("repeated something else")
				}
			}
		})
	}
}

func TestRepetitionEnds(t *testing.T) {
	start := time.Unix(1000, 0)
	answer := func(d *dialler, sender, receiver uint32) { d.answered(makeResponse(t, [32]byte{}, sender, receiver)) }
	for _, c := range []struct {
		name string
		do   func(d *dialler)
		want int
	}{
		{"by a session that the answer began", func(d *dialler) { answer(d, 70, 7); d.established(70) }, 0},
		{"not by an answer alone, which may be forged", func(d *dialler) { answer(d, 70, 7) }, len(repeatAfter)},
		{"by the real answer among forged ones", func(d *dialler) {
			answer(d, 70, 7)
			for i := range uint32(maxCandidates - 1) {
				answer(d, 100+i, 7)
			}
			d.established(70)
		}, 0},
		{"not by a session that another began", func(d *dialler) { answer(d, 70, 7); d.established(71) }, len(repeatAfter)},
		{"not by an answer to another", func(d *dialler) { answer(d, 70, 8); d.established(70) }, len(repeatAfter)},
		{"by closing", func(d *dialler) { d.forget() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDialler(testPeers, func() float64 { return 0.5 })
			d.initiate(makeInitiation(t, mayKey, 7), &place{}, start)
			c.do(d)
			if at, _ := repeatTimes(d, start); len(at) != c.want {
				t.Errorf("repeated %d times, c.want %d", len(at), c.want)
			}
		})
	}
}

func TestNewerInitiationReplaces(t *testing.T) {
	d := newDialler(testPeers, func() float64 { return 0.5 })
	start := time.Unix(1000, 0)
	d.initiate(makeInitiation(t, mayKey, 7), &place{}, start)
	later := start.Add(400 * time.Millisecond)
	d.next(later, nil)
	d.initiate(makeInitiation(t, mayKey, 8), &place{}, later)
	d.answered(makeResponse(t, [32]byte{}, 70, 7)) // too late: 8 counts
	d.established(70)
	at, messages := repeatTimes(d, later)
	if len(at) != len(repeatAfter) || at[0] != repeatAfter[0] {
		t.Errorf("repeated at %v", at)
	}
	for _, r := range messages {
		if senderIndex(r.message[:]) != 8 {
			t.Error("repeated the older one")
		}
	}
}
