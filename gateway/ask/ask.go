// Package ask lets a gateway ask another one a question: one question and one answer over a stream
// inside the tunnel. The bytes of both are opaque to it.
package ask

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/onewaylink/gw/gateway/streams"
)

// A question, integers in big endian, is
//
//	header "gwqu" with the length of the kind   4 length of the body   kind   body
//
// and its answer
//
//	header "gwan" with the status   4 length of the body   body
//
// where the body is the answer, or why there is none. The header is that of package streams.
const (
	question = "gwqu"
	answer   = "gwan"
	version  = 1
)

type status uint8

const (
	statusFine status = iota
	statusRefused
	statusVersion
)

// Limits of a conversation, in bytes, and how long it may take.
const (
	MaxKind = 255
	MaxBody = 256 << 10
	Within  = 5 * time.Second
)

// RefusedError is why the other gateway refused to answer, in its own words.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

// Ask asks the gateway at the other end of conn, and closes conn.
func Ask(ctx context.Context, conn net.Conn, kind string, body []byte) (reply []byte, err error) {
	err = streams.Within(ctx, conn, Within, func(context.Context) error {
		if len(kind) > MaxKind || len(body) > MaxBody {
			return fmt.Errorf("%w: a question of %d bytes", streams.ErrTooLong, len(body))
		}
		reply, err = converse(conn, kind, body)
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func converse(conn net.Conn, kind string, body []byte) ([]byte, error) {
	if _, err := conn.Write(appendQuestion(nil, kind, body)); err != nil {
		return nil, fmt.Errorf("send the question: %w", err)
	}
	st, n, err := readHead(conn, answer)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if err := streams.ReadFull(conn, b); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	switch status(st) {
	case statusFine:
		return b, nil
	case statusRefused:
		return nil, &RefusedError{Why: string(b)}
	case statusVersion:
		return nil, streams.ErrVersion
	}
	return nil, fmt.Errorf("%w: status %d", streams.ErrProtocol, st)
}

func appendQuestion(b []byte, kind string, body []byte) []byte {
	return append(append(appendHead(b, question, byte(len(kind)), len(body)), kind...), body...)
}

func appendAnswer(b []byte, st status, body []byte) []byte {
	return append(appendHead(b, answer, byte(st), len(body)), body...)
}

func appendHead(b []byte, magic string, own byte, n int) []byte {
	return binary.BigEndian.AppendUint32(streams.AppendHeader(b, magic, version, own), uint32(n))
}

// readHead reads a header and the length of the body.
func readHead(r io.Reader, magic string) (own byte, n int, err error) {
	if own, err = streams.ReadHeader(r, magic, version); err != nil {
		return 0, 0, err
	}
	var b [4]byte
	if err := streams.ReadFull(r, b[:]); err != nil {
		return 0, 0, fmt.Errorf("read the header: %w", err)
	}
	if size := binary.BigEndian.Uint32(b[:]); size <= MaxBody {
		return own, int(size), nil
	}
	return 0, 0, fmt.Errorf("%w: a body of more than %d bytes", streams.ErrProtocol, MaxBody)
}

func readQuestion(r io.Reader) (kind string, body []byte, err error) {
	k, n, err := readHead(r, question)
	if err != nil {
		return "", nil, err
	}
	b := make([]byte, int(k)+n)
	if err := streams.ReadFull(r, b); err != nil {
		return "", nil, fmt.Errorf("read the question: %w", err)
	}
	return string(b[:k]), b[k:], nil
}
