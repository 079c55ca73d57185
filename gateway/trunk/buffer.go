package trunk

import (
	"slices"
	"sync"
)

// blockSize is how much memory a buffer takes at a time, in bytes.
const blockSize = 32 << 10

type block [blockSize]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// buffer holds bytes of a stream by their offset. The zero value is empty.
type buffer struct {
	first  uint64   // the number of blocks[0]: its bytes begin at first*blockSize
	blocks []*block // nil where nothing was put
}

// put copies p to offset at, which is not below what was dropped.
func (b *buffer) put(at uint64, p []byte) {
	for len(p) > 0 {
		n := copy(b.block(at)[at%blockSize:], p)
		at, p = at+uint64(n), p[n:]
	}
}

// reserve makes room for size bytes at offset at, and appends to pieces where it is.
func (b *buffer) reserve(pieces [][]byte, at uint64, size int) [][]byte {
	for size > 0 {
		p := b.block(at)[at%blockSize:]
		p = p[:min(size, len(p))]
		pieces = append(pieces, p)
		at, size = at+uint64(len(p)), size-len(p)
	}
	return pieces
}

// cut gives back the memory of what lies behind offset end, where nothing was put.
func (b *buffer) cut(end uint64) {
	number := (end + blockSize - 1) / blockSize
	for n := len(b.blocks); n > 0 && b.first+uint64(n) > number; n-- {
		if p := b.blocks[n-1]; p != nil {
			blocks.Put(p)
		}
		b.blocks[n-1] = nil
		b.blocks = b.blocks[:n-1]
	}
}

// block is the one with the byte at an offset; it is made if it isn't there.
func (b *buffer) block(at uint64) *block {
	number := at / blockSize
	switch {
	case len(b.blocks) == 0:
		b.first = number
	case number < b.first:
		b.blocks = slices.Insert(b.blocks, 0, make([]*block, b.first-number)...)
		b.first = number
	}
	i := int(number - b.first)
	for len(b.blocks) <= i {
		b.blocks = append(b.blocks, nil)
	}
	if b.blocks[i] == nil {
		b.blocks[i] = blocks.Get().(*block)
	}
	return b.blocks[i]
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
	start := int(at % blockSize)
	return b.blocks[at/blockSize-b.first][start:min(start+size, blockSize):blockSize]
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
		if b.blocks[n] != nil {
			blocks.Put(b.blocks[n])
		}
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
	for _, p := range b.blocks {
		if p != nil {
			blocks.Put(p)
		}
	}
	*b = buffer{}
}
