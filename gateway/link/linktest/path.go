// Package linktest has a packet path for tests of the link: what a test puts
// in goes into the tunnel, and what comes out of the tunnel the test takes out.
package linktest

import (
	"os"
	"sync"
)

// A Path is a link.Path made of channels. Use NewPath.
type Path struct {
	In  chan []byte // packets from the host
	Out chan []byte // packets to the host; one that finds no room is dropped

	wake   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// NewPath makes a Path that holds up to n packets each way.
func NewPath(n int) *Path {
	return &Path{In: make(chan []byte, n), Out: make(chan []byte, n), wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Read implements link.Path.
func (p *Path) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case <-p.closed:
		return 0, os.ErrClosed
	case <-p.wake:
		select {
		case pkt := <-p.In:
			sizes[0] = copy(bufs[0][offset:], pkt)
		default:
			return 0, nil
		}
	case pkt := <-p.In:
		sizes[0] = copy(bufs[0][offset:], pkt)
	}
	n := 1
	for n < len(bufs) {
		select {
		case pkt := <-p.In:
			sizes[n] = copy(bufs[n][offset:], pkt)
			n++
		default:
			return n, nil
		}
	}
	return n, nil
}

// Write implements link.Path.
func (p *Path) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		select {
		case p.Out <- append([]byte(nil), b[offset:]...):
		default:
		}
	}
	return len(bufs), nil
}

// Wake implements link.Path.
func (p *Path) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Close makes Read fail, as a TUN device that is taken away does.
func (p *Path) Close() { p.once.Do(func() { close(p.closed) }) }
