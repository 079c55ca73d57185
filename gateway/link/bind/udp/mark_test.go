package udp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSetMark: the sockets of both families have the mark, which may be taken away. Root is needed.
func TestSetMark(t *testing.T) {
	c := New(Config{})
	if err := c.SetMark(7); err != nil {
		t.Errorf("closed: %v", err)
	}
	if _, _, err := c.Open(0); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, mark := range []uint32{0, 51820, 0xfffffffe, 0} {
		if err := c.SetMark(mark); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range []*socket{c.v4.Load(), c.v6.Load()} {
			if s == nil {
				continue
			}
			n++
			var got int
			var err error
			if errControl := s.raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) }); errControl != nil || err != nil {
				t.Fatal(errControl, err)
			}
			if uint32(got) != mark {
				t.Errorf("mark %#x, want %#x", uint32(got), mark)
			}
		}
		if n == 0 {
			t.Fatal("no socket is open")
		}
	}
}
