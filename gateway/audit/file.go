package audit

import (
	"fmt"
	"os"
	"time"

	"github.com/onewaylink/gw/gateway/safefile"
)

// reserveShare is which part of a file's limit is for other lines than those of flows: denials,
// changes of roles, reloads, losses. These come at a bounded rate; lines of flows come as fast as a
// peer opens connections.
const reserveShare = 8

// recheck is how often the size of a full file is read again: it may have been truncated in place.
const recheck = time.Second

// file is where lines go, and how many bytes it may hold. It is for one goroutine.
type file struct {
	path  string
	f     *os.File
	limit int64 // in bytes; 0 is none
	size  int64
	torn  bool      // it ends within a line
	at    time.Time // when its size was read last
}

// openFile opens the path to append to, or standard output, which has no limit: its reader has one.
func openFile(path string, limit int64) (*file, error) {
	if path == Stdout {
		return &file{path: path, f: os.Stdout}, nil
	}
	f, err := safefile.Append(path, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the audit log (local.audit): %w; make its directory, or name another file", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the audit log (local.audit): %w; name another file", err)
	}
	return &file{path: path, f: f, limit: limit, size: info.Size()}, nil
}

// room reports whether so many bytes more fit at the time now. Those of flows leave the reserve.
func (f *file) room(bytes int, flow bool, now time.Time) bool {
	limit := f.limit
	if limit == 0 {
		return true
	}
	if flow {
		limit -= limit / reserveShare
	}
	if f.size+int64(bytes) <= limit {
		return true
	}
	if d := now.Sub(f.at); d >= 0 && d < recheck {
		return false
	}
	f.at = now
	if info, err := f.f.Stat(); err == nil {
		f.size = info.Size()
	}
	return f.size+int64(bytes) <= limit
}

// write appends whole lines, and returns how many bytes of them are in the file. What a full disk
// took of a line before ends that line first.
func (f *file) write(b []byte) (n int, err error) {
	if f.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err = f.f.Write(b)
	f.size += int64(n)
	if n > 0 {
		torn := b[n-1] != '\n'
		if f.torn {
			n--
			torn = n > 0 && torn
		}
		f.torn = torn
	}
	return n, err
}

func (f *file) close() error {
	if f.f == os.Stdout {
		return nil
	}
	return f.f.Close()
}
