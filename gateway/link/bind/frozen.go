package bind

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// frozen reports that the process has just woken up from standing still.
func (b *Bind) frozen() bool { return b.config.Alive != nil && !b.config.Alive() }

// Pending reports whether datagrams wait in the kernel to be received. After
// the process stood still they are of the past, up to the first time that
// Pending says no.
func (b *Bind) Pending() bool {
	for _, at := range []*atomic.Pointer[socket]{&b.v4, &b.v6} {
		s := at.Load()
		if s == nil {
			continue
		}
		var n int
		// A socket that was closed meanwhile holds nothing.
		if err := s.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err == nil && n > 0 {
			return true
		}
	}
	return false
}
