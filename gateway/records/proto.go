package records

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A fetch, integers in big endian. The client says
//
//	4 "gwrf"   2 version   1 length   site
//
// and the server answers
//
//	4 "gwrr"   2 version   1 status
//
// and, if the status is fine, sends records and then the end:
//
//	1 length of the key, not 0   2 length of the value   key   value
//	1 0                          4 number of records
//
// and closes. Each side says its own version, so that each can tell which one
// the other speaks. TCP inside WireGuard has protected every byte.
const (
	protoRequest = "gwrf"
	protoReply   = "gwrr"
	protoVersion = 1

	maxSite = 255
)

type status uint8

const (
	statusFine status = iota
	statusVersion
	statusRefused
)

// Reasons for which a fetch fails.
var (
	// ErrVersion: the other gateway speaks another version of the protocol.
	ErrVersion = errors.New("other version of the record protocol")
	// ErrRefused: the other gateway doesn't give this site's records to us.
	ErrRefused = errors.New("records refused")
	// ErrProtocol: what came is no such conversation, or goes over a limit.
	ErrProtocol = errors.New("record protocol violated")
)

func appendRequest(dst []byte, site string) []byte {
	dst = append(dst, protoRequest...)
	dst = binary.BigEndian.AppendUint16(dst, protoVersion)
	dst = append(dst, byte(len(site)))
	return append(dst, site...)
}

func appendReply(dst []byte, st status) []byte {
	dst = append(dst, protoReply...)
	dst = binary.BigEndian.AppendUint16(dst, protoVersion)
	return append(dst, byte(st))
}

func appendRecord(dst, key, value []byte) []byte {
	dst = append(dst, byte(len(key)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(append(dst, key...), value...)
}

func appendEnd(dst []byte, count int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(count))
}

// readGreeting reads what both messages begin with, and the byte behind it.
func readGreeting(r io.Reader, magic string) (next byte, err error) {
	var b [7]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read greeting: %w", err)
	}
	if !bytes.Equal(b[:4], []byte(magic)) {
		return 0, fmt.Errorf("%w: greeting begins with %q", ErrProtocol, b[:4])
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != protoVersion {
		return 0, fmt.Errorf("%w: it speaks %d, we speak %d", ErrVersion, v, protoVersion)
	}
	return b[6], nil
}

func readRequest(r io.Reader) (site string, err error) {
	n, err := readGreeting(r, protoRequest)
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", fmt.Errorf("read site: %w", err)
	}
	return string(b), nil
}

func readReply(r io.Reader) error {
	st, err := readGreeting(r, protoReply)
	if err != nil {
		return err
	}
	switch status(st) {
	case statusFine:
		return nil
	case statusVersion:
		return ErrVersion
	case statusRefused:
		return ErrRefused
	}
	return fmt.Errorf("%w: status %d", ErrProtocol, st)
}

// readRecords reads records up to the end and hands them to each, which must not
// keep the slices. It returns how many came.
func readRecords(r io.Reader, lim Limits, each func(key, value []byte)) (int, error) {
	lim = lim.withDefaults()
	var buf [MaxKey + MaxValue]byte
	var head [4]byte
	for n, total := 0, 0; ; n++ {
		if _, err := io.ReadFull(r, head[:1]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, noEOF(err))
		}
		k := int(head[0])
		if k == 0 {
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return n, fmt.Errorf("read the end: %w", noEOF(err))
			}
			if count := binary.BigEndian.Uint32(head[:]); int64(count) != int64(n) {
				return n, fmt.Errorf("%w: %d records announced, %d came", ErrProtocol, count, n)
			}
			return n, nil
		}
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, noEOF(err))
		}
		v := int(binary.BigEndian.Uint16(head[:]))
		total += k + v
		if v > MaxValue || n >= lim.Records || total > lim.Bytes {
			return n, fmt.Errorf("%w: more than %d records or %d bytes, or a value of %d bytes", ErrProtocol, lim.Records, lim.Bytes, v)
		}
		if _, err := io.ReadFull(r, buf[:k+v]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, noEOF(err))
		}
		each(buf[:k], buf[k:k+v])
	}
}

// noEOF makes the end of the stream an error: without the end message it is one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
