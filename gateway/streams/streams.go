// Package streams carries conversations of two gateways over TCP inside the tunnel, which protects
// every byte: the header of a message, the time that a conversation may take, and a [Server] that
// limits each site. What the messages say is the business of packages ask and records.
package streams

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Every message begins with a header, integers in big endian:
//
//	4 magic   2 version   1 byte of the protocol's own
//
// Each side sends its own version, so that each can report which one the other speaks. A version
// that is not known is refused.
const HeaderSize = 7

var (
	// ErrVersion: the peer gateway speaks another version of the protocol.
	ErrVersion = errors.New("the peer gateway speaks another version of this protocol")
	// ErrProtocol: a message of the peer is malformed or exceeds a limit.
	ErrProtocol = errors.New("protocol error from the peer gateway")
	// ErrTooLong: a message of this node would exceed a limit, and was not sent.
	ErrTooLong = errors.New("the message exceeds a limit of the protocol")
)

// AppendHeader appends a header to b. The magic has 4 bytes.
func AppendHeader(b []byte, magic string, version uint16, own byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(b, magic...), version), own)
}

// ReadHeader reads a header and returns its last byte. It returns io.EOF, wrapped, when the peer
// closes before it sends anything.
func ReadHeader(r io.Reader, magic string, version uint16) (own byte, err error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read the header: %w", err)
	}
	if string(b[:4]) != magic {
		return 0, fmt.Errorf("%w: the header begins with %q", ErrProtocol, b[:4])
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != version {
		return 0, fmt.Errorf("%w: version %d there, %d here", ErrVersion, v, version)
	}
	return b[6], nil
}

// ReadFull fills b. The end of the stream is io.ErrUnexpectedEOF, since it is in the middle of a
// message.
func ReadFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Within runs converse, which uses conn, and closes conn. When ctx ends or limit has passed, Within
// aborts conn, so that converse returns; the error is then the cause.
func Within(ctx context.Context, conn net.Conn, limit time.Duration, converse func(context.Context) error) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { abort(conn) })()
	err := converse(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// AwaitClose waits until the peer, which then has received everything, closes. Closing first, with
// something unread, would reset the connection and discard what is in flight.
func AwaitClose(conn net.Conn) {
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 4096))
}

// abort closes conn and discards what the peer has not received: nothing waits for that any more,
// and it would stay in memory.
func abort(conn net.Conn) {
	if l, ok := conn.(lingerer); ok {
		_ = l.SetLinger(0)
	}
	conn.Close()
}

// lingerer is implemented by TCP connections of package net and of netstack.
type lingerer interface {
	SetLinger(sec int) error
}

var _ lingerer = (*net.TCPConn)(nil)
