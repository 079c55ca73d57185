package records

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Limits bound one fetch, on either side. A zero field takes its default.
type Limits struct {
	Records int           // default 262,144
	Bytes   int           // of keys and values together; default 32 MiB
	Time    time.Duration // for all of it; default 30 s
}

func (l Limits) withDefaults() Limits {
	if l.Records == 0 {
		l.Records = 1 << 18
	}
	if l.Bytes == 0 {
		l.Bytes = 32 << 20
	}
	if l.Time == 0 {
		l.Time = 30 * time.Second
	}
	return l
}

// Fetch asks the gateway at the other end of conn for the records that concern
// site and hands them to each, which must not keep the slices. It returns how
// many came; those are good even when an error ended the fetch. It closes conn.
func Fetch(ctx context.Context, conn net.Conn, site string, lim Limits, each func(key, value []byte)) (int, error) {
	defer conn.Close()
	lim = lim.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, lim.Time)
	defer cancel()
	defer closeWith(ctx, conn)()

	n, err := fetch(conn, site, lim, each)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return n, fmt.Errorf("fetch records of site %q from %s: %w", site, conn.RemoteAddr(), err)
	}
	return n, nil
}

func fetch(conn net.Conn, site string, lim Limits, each func(key, value []byte)) (int, error) {
	if len(site) > maxSite {
		return 0, fmt.Errorf("%w: name of %d bytes", ErrProtocol, len(site))
	}
	if _, err := conn.Write(appendRequest(nil, site)); err != nil {
		return 0, fmt.Errorf("send request: %w", err)
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	if err := readReply(r); err != nil {
		return 0, err
	}
	return readRecords(r, lim, each)
}

// closeWith closes c when ctx ends, which ends all that waits for c, until the
// function that it returns is called. Of a connection it discards what wasn't
// sent: nobody waits for that any more, and it would stay in memory.
func closeWith(ctx context.Context, c io.Closer) (release func()) {
	stop := context.AfterFunc(ctx, func() {
		if l, ok := c.(lingerer); ok {
			l.SetLinger(0)
		}
		c.Close()
	})
	return func() { stop() }
}

// lingerer is what TCP connections of package net and of netstack have.
type lingerer interface {
	SetLinger(sec int) error
}

var _ lingerer = (*net.TCPConn)(nil)
