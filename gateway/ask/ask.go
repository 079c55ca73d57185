// Package ask lets a gateway ask another one a question: one question and one answer
// over a connection inside the tunnel, which protects both. It knows nothing of what
// is asked. A leaf.
package ask

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A question, integers in big endian, is
//
//	4 "gwqu"   2 version   1 length of the kind   4 length of the body   kind   body
//
// and its answer
//
//	4 "gwan"   2 version   1 status   4 length of the body   body
//
// where the body is the answer, or why there is none. Each side says its own version,
// and a version that is not known is refused.
const (
	question = "gwqu"
	answer   = "gwan"
	version  = 1
	headSize = 11
)

type status uint8

const (
	statusFine status = iota
	statusRefused
	statusVersion
)

// Limits of a conversation.
const (
	MaxKind = 255
	MaxBody = 256 << 10
	// Within is how long it may take.
	Within = 5 * time.Second
)

var (
	// ErrProtocol: what came is no such conversation, or goes over a limit.
	ErrProtocol = errors.New("question protocol violated")
	// ErrVersion: the other gateway speaks another version of the protocol.
	ErrVersion = errors.New("other version of the question protocol")
)

// RefusedError is why the other gateway gave no answer, in its own words.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

// Ask asks the gateway at the other end of conn, and closes conn.
func Ask(ctx context.Context, conn net.Conn, kind string, body []byte) ([]byte, error) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if len(kind) > MaxKind || len(body) > MaxBody {
		return nil, fmt.Errorf("%w: a question of %d bytes", ErrProtocol, len(body))
	}
	b, err := converse(conn, kind, body)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return b, err
}

func converse(conn net.Conn, kind string, body []byte) ([]byte, error) {
	if _, err := conn.Write(append(append(appendHead(nil, question, byte(len(kind)), len(body)), kind...), body...)); err != nil {
		return nil, fmt.Errorf("send the question: %w", err)
	}
	st, n, err := readHead(conn, answer)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, fmt.Errorf("read the answer: %w", noEOF(err))
	}
	switch status(st) {
	case statusFine:
		return b, nil
	case statusRefused:
		return nil, &RefusedError{Why: string(b)}
	case statusVersion:
		return nil, ErrVersion
	}
	return nil, fmt.Errorf("%w: status %d", ErrProtocol, st)
}

func appendHead(b []byte, magic string, small byte, n int) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = append(b, small)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// readHead reads what both messages begin with: a byte, and the length of the body.
func readHead(r io.Reader, magic string) (small byte, n int, err error) {
	var b [headSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, fmt.Errorf("read what it begins with: %w", noEOF(err))
	}
	if !bytes.Equal(b[:4], []byte(magic)) {
		return 0, 0, fmt.Errorf("%w: it begins with %q", ErrProtocol, b[:4])
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != version {
		return 0, 0, fmt.Errorf("%w: it speaks %d, we speak %d", ErrVersion, v, version)
	}
	if size := binary.BigEndian.Uint32(b[7:]); size <= MaxBody {
		return b[6], int(size), nil
	}
	return 0, 0, fmt.Errorf("%w: a body of more than %d bytes", ErrProtocol, MaxBody)
}

func readQuestion(r io.Reader) (kind string, body []byte, err error) {
	k, n, err := readHead(r, question)
	if err != nil {
		return "", nil, err
	}
	b := make([]byte, int(k)+n)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", nil, fmt.Errorf("read the question: %w", noEOF(err))
	}
	return string(b[:k]), b[k:], nil
}

// noEOF makes the end of the stream an error of its own: in the middle of a message it
// is one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
