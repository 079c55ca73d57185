package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/onewaylink/gw/gateway/streams"
)

// A fetch, integers in big endian. The client sends
//
//	header "gwrf" with the length of the site   site
//
// and the server answers
//
//	header "gwrr" with the status
//
// and, if the status is fine, records and then the end:
//
//	1 length of the key, not 0   2 length of the value   key   value
//	1 0                          4 number of records
//
// and closes. The header is that of package streams.
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

// ErrRefused: the other gateway refuses to send this site's records to this node.
var ErrRefused = errors.New("refused by the peer gateway")

// errRefused is why this gateway refuses.
var errRefused = errors.New("refused")

func appendRequest(dst []byte, site string) []byte {
	return append(streams.AppendHeader(dst, protoRequest, protoVersion, byte(len(site))), site...)
}

func appendReply(dst []byte, st status) []byte {
	return streams.AppendHeader(dst, protoReply, protoVersion, byte(st))
}

func appendRecord(dst, key, value []byte) []byte {
	dst = append(dst, byte(len(key)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(append(dst, key...), value...)
}

func appendEnd(dst []byte, count int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(count))
}

func readRequest(r io.Reader) (site string, err error) {
	n, err := streams.ReadHeader(r, protoRequest, protoVersion)
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	if err := streams.ReadFull(r, b); err != nil {
		return "", fmt.Errorf("read the site: %w", err)
	}
	return string(b), nil
}

func readReply(r io.Reader) error {
	st, err := streams.ReadHeader(r, protoReply, protoVersion)
	if err != nil {
		return err
	}
	switch status(st) {
	case statusFine:
		return nil
	case statusVersion:
		return streams.ErrVersion
	case statusRefused:
		return ErrRefused
	}
	return fmt.Errorf("%w: status %d", streams.ErrProtocol, st)
}

// readRecords reads records up to the end and hands them to each, which must not
// keep the slices. It returns how many arrived.
func readRecords(r io.Reader, lim Limits, each func(key, value []byte)) (int, error) {
	lim = lim.withDefaults()
	var buf [MaxKey + MaxValue]byte
	var head [4]byte
	for n, total := 0, 0; ; n++ {
		if err := streams.ReadFull(r, head[:1]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, err)
		}
		k := int(head[0])
		if k == 0 {
			if err := streams.ReadFull(r, head[:]); err != nil {
				return n, fmt.Errorf("read the end: %w", err)
			}
			if count := binary.BigEndian.Uint32(head[:]); int64(count) != int64(n) {
				return n, fmt.Errorf("%w: %d records announced, %d sent", streams.ErrProtocol, count, n)
			}
			return n, nil
		}
		if err := streams.ReadFull(r, head[:2]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, err)
		}
		v := int(binary.BigEndian.Uint16(head[:]))
		total += k + v
		if v > MaxValue || n >= lim.Records || total > lim.Bytes {
			return n, fmt.Errorf("%w: more than %d records or %d bytes, or a value of %d bytes", streams.ErrProtocol, lim.Records, lim.Bytes, v)
		}
		if err := streams.ReadFull(r, buf[:k+v]); err != nil {
			return n, fmt.Errorf("read record %d: %w", n, err)
		}
		each(buf[:k], buf[k:k+v])
	}
}
