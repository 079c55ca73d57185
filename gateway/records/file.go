package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

// The file begins with magic, version, two bytes of zero and the CRC-32C of what
// precedes it.
const (
	fileMagic   = "gwrecord"
	fileVersion = 1
	fileHeader  = 16
)

func appendFileHeader(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, fileMagic...)
	dst = binary.BigEndian.AppendUint16(dst, fileVersion)
	dst = append(dst, 0, 0)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// contents is what a file holds.
type contents struct {
	records    []Record // alias the file's bytes
	version    int      // of the header; 0 when the header is damaged
	places     int      // in which something was skipped
	lost       int      // bytes skipped
	unreadable bool     // neither a header nor any entry could be read
}

// decode reads a file. It never fails: the result tells what was unreadable.
func decode(b []byte) contents {
	c := contents{}
	if len(b) == 0 {
		c.version = fileVersion
		return c
	}
	body := b
	if len(b) >= fileHeader && string(b[:len(fileMagic)]) == fileMagic &&
		binary.BigEndian.Uint32(b[fileHeader-4:]) == crc32.Checksum(b[:fileHeader-4], castagnoli) {
		c.version = int(binary.BigEndian.Uint16(b[len(fileMagic):]))
		if c.version != fileVersion {
			return c
		}
		body = b[fileHeader:]
	}
	at := make(map[string]int)
	gone := 0
	c.places, c.lost = scan(body, func(e entry) {
		i, ok := at[string(e.key)]
		switch {
		case e.op == opDelete && ok:
			delete(at, string(e.key))
			c.records[i].Key = nil
			gone++
		case e.op == opPut && ok:
			c.records[i].Value = e.value
		case e.op == opPut:
			at[string(e.key)] = len(c.records)
			c.records = append(c.records, Record{e.key, e.value})
		}
	})
	c.unreadable = c.version == 0 && c.lost == len(body)
	if gone > 0 {
		kept := c.records[:0]
		for _, r := range c.records {
			if r.Key != nil {
				kept = append(kept, r)
			}
		}
		c.records = kept
	}
	return c
}

// Load reads the records of the last run. Call it once, before Run: Run first rewrites
// the file from the snapshot, which must contain the records to keep by then.
//
// Damage costs the entries that it hit and one line in the log. A file of
// another version, or in which nothing can be read, is moved aside and counts as
// empty, since a gateway without records is better than none.
func (s *Store) Load() ([]Record, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open flow records: %w; see that the file can be read, or move it away: connections that only it knows must be opened again", err)
	}
	defer f.Close()
	// The writer keeps below one and a half times MaxBytes; what is more isn't ours.
	b, err := io.ReadAll(io.LimitReader(f, 2*s.cfg.MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("read flow records: %w; move %s away: connections that only it knows must be opened again", err, s.path)
	}
	c := decode(b)
	switch {
	case c.unreadable:
		return nil, s.moveAside("damaged", "flow records are unreadable and were moved aside")
	case c.version != 0 && c.version != fileVersion:
		return nil, s.moveAside(fmt.Sprintf("version-%d", c.version),
			"flow records have a version that this gateway doesn't know and were moved aside",
			"version", c.version, "known", fileVersion)
	case c.places > 0 || c.version == 0:
		s.log.Warn("flow records are damaged in places, the rest was read", "file", s.path,
			"places", c.places, "bytes", c.lost, "read", len(c.records))
	}
	return c.records, nil
}

func (s *Store) moveAside(suffix, msg string, kv ...any) error {
	to := s.path + "." + suffix
	if err := os.Rename(s.path, to); err != nil {
		return fmt.Errorf("move flow records aside that can't be used: %w; remove %s", err, s.path)
	}
	s.log.Error(msg, append([]any{"file", s.path, "moved_to", to}, kv...)...)
	return nil
}
