package attacker

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestMutate: a mutant stays within its bound, leaves its origin alone, and usually differs.
func TestMutate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	origin := bytes.Repeat([]byte{1, 2, 3, 4}, 100)
	keep := bytes.Clone(origin)
	other := func() []byte { return []byte{9, 9, 9} }
	same := 0
	for i := range 20_000 {
		in := origin[:r.IntN(len(origin)+1)]
		out := mutate(r, in, other)
		if len(out) > maxMutant {
			t.Fatalf("mutant %d has %d bytes", i, len(out))
		}
		if bytes.Equal(in, out) {
			same++
		}
	}
	if !bytes.Equal(origin, keep) {
		t.Error("mutate changed its input")
	}
	if same > 2_000 {
		t.Errorf("%d of 20,000 mutants equal their input", same)
	}
}

// TestMutateSeed: the same seed gives the same mutants, so that a failure can be reproduced.
func TestMutateSeed(t *testing.T) {
	run := func() (all []byte) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 100 {
			all = append(all, mutate(r, []byte("a payload of some protocol"), func() []byte { return nil })...)
		}
		return all
	}
	if !bytes.Equal(run(), run()) {
		t.Error("two runs with the same seed differ")
	}
}
