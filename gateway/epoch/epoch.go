// Package epoch keeps the highest epoch of a pair's election over restarts, in one
// small file of the state directory.
//
// The file has two slots of a fixed size, each a line of text with a checksum. A new
// epoch overwrites the slot with the lower one in place, so a write that is cut short
// leaves the other slot whole, and a disk that has become full does not matter: the
// file's blocks are there already. (File systems that copy on write may still need
// room; then Store fails, and its caller goes on without.)
//
// The file survives the death of the process. Nothing waits for the disk: after the
// death of the machine the clock makes up for what is lost, see package ha.
package epoch

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	name     = "epoch"
	slotSize = 512 // a disk's sector, which is written whole
	slots    = 2
)

var table = crc32.MakeTable(crc32.Castagnoli)

// File is the epoch file of a state directory. It is for one goroutine at a time.
type File struct {
	path   string
	f      *os.File // nil until the file has its slots
	stored uint64
	next   int // the slot to overwrite
}

// Path returns the file of a state directory.
func Path(dir string) string { return filepath.Join(dir, name) }

// Open reads the file of a state directory. It changes nothing, and a file that does not
// exist holds 0. The former format, a decimal number, is read as well.
func Open(dir string) (*File, error) {
	e := &File{path: Path(dir)}
	b, err := os.ReadFile(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the epoch: %w; remove the file, the clock makes up for it", err)
	}
	ok := false
	if e.stored, e.next, ok = parse(b); !ok {
		return nil, fmt.Errorf("read the epoch: %s holds no epoch; remove it, the clock makes up for it", e.path)
	}
	return e, nil
}

// Epoch returns the highest epoch that the file holds.
func (e *File) Epoch() uint64 { return e.stored }

// Prepare gives the file its size, so that Store needs no room on the disk. Store does
// it where Prepare has failed or was not called.
func (e *File) Prepare() error {
	if e.f != nil {
		return nil
	}
	if f, err := os.OpenFile(e.path, os.O_RDWR, 0); err == nil {
		if info, err := f.Stat(); err == nil && info.Size() == slots*slotSize {
			e.f = f
			return nil
		}
		f.Close()
	}
	return e.replace(e.stored)
}

// replace writes a whole new file with an epoch in its first slot.
func (e *File) replace(epoch uint64) error {
	b := append(slot(epoch), slot(0)...)
	tmp := e.path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return e.failed(err)
	}
	if _, err = f.Write(b); err == nil {
		err = own(f, filepath.Dir(e.path))
	}
	if err == nil {
		err = os.Rename(tmp, e.path)
	}
	if err != nil {
		return e.failed(errors.Join(err, f.Close(), os.Remove(tmp)))
	}
	if e.f != nil {
		e.f.Close()
	}
	e.f, e.stored, e.next = f, epoch, 1
	return nil
}

// own gives f to the owner of dir: root resets the epoch of a service that runs as another user.
func own(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

func (e *File) failed(err error) error {
	return fmt.Errorf("store the epoch: %w; make room on the disk of %s, or see that it can be written", err, filepath.Dir(e.path))
}

// Store overwrites the lower of the two epochs.
func (e *File) Store(epoch uint64) error {
	if e.f == nil {
		return e.replace(epoch)
	}
	if _, err := e.f.WriteAt(slot(epoch), int64(e.next)*slotSize); err != nil {
		return e.failed(err)
	}
	e.stored, e.next = epoch, (e.next+1)%slots
	return nil
}

// Reset makes the file hold 0, whatever it holds.
func (e *File) Reset() error { return e.replace(0) }

// Close closes the file, which keeps its content.
func (e *File) Close() error {
	if e.f == nil {
		return nil
	}
	return e.f.Close()
}

// slot is an epoch as the file holds it.
func slot(epoch uint64) []byte {
	text := fmt.Sprintf("gw epoch %020d", epoch)
	line := fmt.Sprintf("%s crc32c %08x\n", text, crc32.Checksum([]byte(text), table))
	return append([]byte(line), bytes.Repeat([]byte("\n"), slotSize-len(line))...)
}

// parse returns the highest epoch of a file and the slot to be overwritten next.
func parse(b []byte) (epoch uint64, next int, ok bool) {
	if !bytes.HasPrefix(b, []byte("gw ")) && len(b) < slotSize {
		epoch, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		return epoch, 0, err == nil
	}
	for i := range slots {
		n, valid := parseSlot(b[min(i*slotSize, len(b)):])
		if valid && (!ok || n > epoch) {
			epoch, next, ok = n, 1-i, true
		}
	}
	return epoch, next, ok
}

// parseSlot reads the slot at the beginning of b.
func parseSlot(b []byte) (epoch uint64, ok bool) {
	b = b[:min(len(b), slotSize)]
	line, _, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return 0, false
	}
	text, sum, ok := strings.Cut(string(line), " crc32c ")
	digits, is := strings.CutPrefix(text, "gw epoch ")
	if !ok || !is || sum != fmt.Sprintf("%08x", crc32.Checksum([]byte(text), table)) {
		return 0, false
	}
	epoch, err := strconv.ParseUint(digits, 10, 64)
	return epoch, err == nil
}
