package trunk

import (
	"slices"
	"sync"
)

// blockSize is how many bytes of a stream share a block of memory.
const blockSize = 32 << 10

// firstSizes are the sizes of a stream's first block while it holds less: a stream that has
// carried only a few bytes must not cost a whole block, since its peer may begin many.
var firstSizes = [...]int{128, 1 << 10, 8 << 10}

type block [blockSize]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// buffer holds bytes of a stream by their offset, and charges an account for its blocks. The
// zero value is empty, and has no bound.

type buffer struct {
	mem    *account
	bytes  int      // of all blocks
	first  uint64   // the number of blocks[0]: its bytes begin at first*blockSize
	blocks [][]byte // nil where nothing was put
}

// sizeFor is the size of the block with a number that holds up to end bytes.
func sizeFor(number uint64, end int) int {
	if number == 0 {
		for _, size := range firstSizes {
			if end <= size {
				return size
			}
		}
	}
	return blockSize
}

// cost is how many bytes of memory it takes to put size bytes at offset at.
func (b *buffer) cost(at uint64, size int) (n int) {
	for size > 0 {
		number, start := at/blockSize, int(at%blockSize)
		part := min(size, blockSize-start)
		want := sizeFor(number, start+part)
		if i := number - b.first; number >= b.first && i < uint64(len(b.blocks)) {
			want -= len(b.blocks[i])
		}
		n += max(want, 0)
		at, size = at+uint64(part), size-part
	}
	return n
}

// fit makes room for size bytes at offset at, which is not below what was dropped, so that put
// and reserve find it. It reports false if the account has too little left.

func (b *buffer) fit(at uint64, size int) bool {
	if i := at/blockSize - b.first; i < uint64(len(b.blocks)) && int(at%blockSize)+size <= len(b.blocks[i]) {
		return true // as most of the time; a block below first has a number that wraps
	}
	for size > 0 {
		part := min(size, blockSize-int(at%blockSize))
		if b.block(at, part) == nil {
			return false
		}
		at, size = at+uint64(part), size-part
	}
	return true
}

// put copies p to offset at. There has to be room: see fit.
func (b *buffer) put(at uint64, p []byte) {
	for len(p) > 0 {
		part := min(len(p), blockSize-int(at%blockSize))
		copy(b.block(at, part)[at%blockSize:], p[:part])
		at, p = at+uint64(part), p[part:]
	}
}

// reserve appends to pieces where size bytes at offset at will lie. There has to be room: see
// fit.
func (b *buffer) reserve(pieces [][]byte, at uint64, size int) [][]byte {
	for size > 0 {
		part := min(size, blockSize-int(at%blockSize))
		p := b.block(at, part)[at%blockSize:]
		pieces = append(pieces, p[:part])
		at, size = at+uint64(part), size-part
	}
	return pieces
}

// cut gives back the memory of what lies behind offset end, where nothing was put.
func (b *buffer) cut(end uint64) {
	number := (end + blockSize - 1) / blockSize
	for n := len(b.blocks); n > 0 && b.first+uint64(n) > number; n-- {
		b.free(n - 1)
		b.blocks = b.blocks[:n-1]
	}
}

// block is the one with size bytes from an offset on. It is made or replaced by a larger one if
// need be; nil is that the account has too little left.
func (b *buffer) block(at uint64, size int) []byte {
	number, end := at/blockSize, int(at%blockSize)+size
	if i := number - b.first; number >= b.first && i < uint64(len(b.blocks)) && len(b.blocks[i]) >= end {
		return b.blocks[i]
	}
	switch {
	case len(b.blocks) == 0:
		b.first = number
	case number < b.first:
		b.blocks = slices.Insert(b.blocks, 0, make([][]byte, b.first-number)...)
		b.first = number
	}
	i := int(number - b.first)
	for len(b.blocks) <= i {
		b.blocks = append(b.blocks, nil)
	}
	old, want := b.blocks[i], sizeFor(number, end)
	if !b.mem.take(want - len(old)) {
		return nil
	}
	b.bytes += want - len(old)
	if want == blockSize {
		b.blocks[i] = blocks.Get().(*block)[:]
	} else {
		b.blocks[i] = make([]byte, want)
	}
	copy(b.blocks[i], old) // pieces of the old one stay valid, and are left to the garbage collector
	return b.blocks[i]
}

// free gives a block's memory back.
func (b *buffer) free(i int) {
	p := b.blocks[i]
	if p == nil {
		return
	}
	b.blocks[i] = nil
	b.bytes -= len(p)
	b.mem.give(len(p))
	if len(p) == blockSize {
		blocks.Put((*block)(p))
	}
}

// get copies what was put at offset at to p.
func (b *buffer) get(at uint64, p []byte) {
	for len(p) > 0 {
		n := copy(p, b.piece(at, len(p)))
		at, p = at+uint64(n), p[n:]
	}
}

// piece is what was put at offset at, up to size bytes, as far as it lies in one piece.
func (b *buffer) piece(at uint64, size int) []byte {
	p := b.blocks[at/blockSize-b.first]
	start := int(at % blockSize)
	return p[start:min(start+size, len(p)):len(p)]
}

// drop gives back the memory of what lies below an offset; end is that of the last byte
// that was put. A buffer with nothing in it has none.
func (b *buffer) drop(below, end uint64) {
	number := below / blockSize
	if below == end {
		number = (end + blockSize - 1) / blockSize
	}
	n := 0
	for n < len(b.blocks) && b.first+uint64(n) < number {
		b.free(n)
		n++
	}
	if n == 0 {
		return
	}
	rest := copy(b.blocks, b.blocks[n:])
	clear(b.blocks[rest:])
	b.blocks = b.blocks[:rest]
	b.first += uint64(n)
}

// clear gives all memory back.
func (b *buffer) clear() {
	for i := range b.blocks {
		b.free(i)
	}
	*b = buffer{mem: b.mem}
}

// abandon empties the buffer while somebody may still use a piece of it, so that the memory is
// left to the garbage collector.
func (b *buffer) abandon() {
	b.mem.give(b.bytes)
	*b = buffer{mem: b.mem}
}
