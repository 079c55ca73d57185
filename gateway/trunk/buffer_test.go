package trunk

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// plain is a buffer, slow and simple: all of a stream that is short.
type plain struct {
	bytes, put [12 * blockSize]byte // put is 1 where something was put, and not dropped
	below      int                  // what was dropped
	end        int                  // of the last byte that was put
}

// blocks counts those that have something in them.
func (p *plain) blocks() (n int) {
	for at := 0; at < len(p.put); at += blockSize {
		if bytes.IndexByte(p.put[at:at+blockSize], 1) >= 0 {
			n++
		}
	}
	return n
}

// run is how many bytes in a row were put, from one on.
func (p *plain) run(at int) int {
	if n := bytes.IndexByte(p.put[at:], 0); n >= 0 {
		return n
	}
	return len(p.put) - at
}

// held counts the blocks that a buffer has.
func held(b *buffer) (n int) {
	for _, p := range b.blocks {
		if p != nil {
			n++
		}
	}
	return n
}

func TestBuffer(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(2, seed))
		p, b := new(plain), new(buffer)
		for step := 0; step < 60 && p.below < len(p.put); step++ {
			at := p.below + r.IntN(len(p.put)-p.below)
			switch r.IntN(5) {
			case 0, 1, 2:
				what := payload(r, min(1+r.IntN(1<<r.IntN(17)), len(p.put)-at))
				copy(p.bytes[at:], what)
				copy(p.put[at:], bytes.Repeat([]byte{1}, len(what)))
				p.end = max(p.end, at+len(what))
				b.put(uint64(at), what)
			case 3:
				n := p.run(at)
				got := make([]byte, n)
				if b.get(uint64(at), got); !bytes.Equal(got, p.bytes[at:at+n]) {
					t.Fatalf("seed %d, step %d: other bytes at %d", seed, step, at)
				}
				if n == 0 {
					break
				}
				piece := b.piece(uint64(at), n)
				if len(piece) != min(n, blockSize-at%blockSize) || !bytes.Equal(piece, got[:len(piece)]) {
					t.Fatalf("seed %d, step %d: a piece of %d of %d bytes at %d, or others", seed, step, len(piece), n, at)
				}
			case 4:
				if p.below = min(p.below+r.IntN(2*blockSize), p.end); r.IntN(8) == 0 {
					p.below = p.end
				}
				b.drop(uint64(p.below), uint64(p.end))
				clear(p.put[:p.below])
			}
			// Of the block that was dropped in part, nothing else may have been put.
			got, least := held(b), p.blocks()
			if got < least || got > least+1 || p.below == p.end && got > 0 {
				t.Fatalf("seed %d, step %d: %d blocks, want %d", seed, step, got, least)
			}
			for _, gone := range b.blocks[len(b.blocks):cap(b.blocks)] {
				if gone != nil {
					t.Fatalf("seed %d, step %d: it keeps a block that was given back", seed, step)
				}
			}
		}
		b.clear()
		if b.blocks != nil {
			t.Fatalf("seed %d: %d blocks after clear", seed, held(b))
		}
	}
}

// The end may lie in the middle of a block, or at its end, and what follows is put there.
func TestBufferDropsAll(t *testing.T) {
	for _, size := range []int{1, blockSize - 1, blockSize, blockSize + 1, 3 * blockSize} {
		var b buffer
		at := uint64(0)
		for range 5 {
			p := noise[at : at+uint64(size)]
			b.put(at, p)
			got := make([]byte, size)
			if b.get(at, got); !bytes.Equal(got, p) {
				t.Fatalf("other bytes at %d", at)
			}
			at += uint64(size)
			if b.drop(at, at); held(&b) != 0 {
				t.Fatalf("%d blocks are left of %d bytes", held(&b), at)
			}
		}
	}
}

// What comes too early is put before what goes before it.
func TestBufferBelowFirst(t *testing.T) {
	var b buffer
	places := []int{5*blockSize + 7, 3*blockSize - 1, 0}
	for _, at := range places {
		b.put(uint64(at), noise[at:at+100])
	}
	for _, at := range places {
		got := make([]byte, 100)
		if b.get(uint64(at), got); !bytes.Equal(got, noise[at:at+100]) {
			t.Errorf("other bytes at %d", at)
		}
	}
	if n := held(&b); n != 4 {
		t.Errorf("%d blocks, want those of the first and the last, and two where it goes across", n)
	}
	if b.drop(3*blockSize, 5*blockSize+107); held(&b) != 2 {
		t.Errorf("%d blocks after drop", held(&b))
	}
}
