package trunk

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Whatever both ends do to streams, and the network to packets, in the end nothing is left.
func TestAnyEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(16, seed))
		line := quick
		line.loss, line.late = []float64{0, 0.02, 0.2}[seed%3], 0.1*float64(seed%2)
		s := newSim(t, line)
		var talks []*talk
		for i := range 12 {
			near, far := call(s, i%2, script(r, 1<<r.IntN(19)), script(r, 1<<r.IntN(19)))
			near.ends, far.deaf = r.IntN(2) == 0, r.IntN(4) == 0
			talks = append(talks, near, far)
		}
		over := passes(s, 500*time.Millisecond)
		proceed(s, time.Minute, "while", func() bool {
			duplicate(s, 0.005)
			k := talks[r.IntN(len(talks))]
			switch event := r.IntN(500); {
			case event < 3 && k.c != nil:
				k.c.Close()
			case event < 6 && k.c != nil:
				k.c.Finish()
			case event < 8:
				s.ends[k.at].line.down = !s.ends[k.at].line.down
			case event < 10:
				s.ends[k.at].path.set(s.now, 600+r.IntN(1000), 0)
			}
			return over()
		}, talks...)
		s.both(func(l *simLine) { l.down = false })
		for _, k := range talks {
			k.deaf, k.ends = false, true
		}
		proceed(s, 5*time.Minute, "end of all streams", func() bool {
			for _, k := range talks {
				if k.c != nil && k.err != nil {
					k.c.Close()
				}
			}
			return quiet(s)
		}, talks...)
		for i, k := range talks {
			if k.c != nil && !empty(k.c) {
				t.Errorf("seed %d: end %d keeps memory", seed, i)
			}
		}
	}
}
