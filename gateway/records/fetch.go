package records

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/onewaylink/gw/gateway/streams"
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

// Fetch requests the records that concern site from the gateway at the other end of conn and hands
// them to each, which must not keep the slices. It returns how many arrived; those are good even
// when an error ended the fetch. It closes conn.
func Fetch(ctx context.Context, conn net.Conn, site string, lim Limits, each func(key, value []byte)) (n int, err error) {
	lim = lim.withDefaults()
	err = streams.Within(ctx, conn, lim.Time, func(context.Context) error {
		n, err = fetch(conn, site, lim, each)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("fetch records of site %q from %s: %w", site, conn.RemoteAddr(), err)
	}
	return n, nil
}

func fetch(conn net.Conn, site string, lim Limits, each func(key, value []byte)) (int, error) {
	if len(site) > maxSite {
		return 0, fmt.Errorf("%w: a site name of %d bytes", streams.ErrTooLong, len(site))
	}
	if _, err := conn.Write(appendRequest(nil, site)); err != nil {
		return 0, fmt.Errorf("send the request: %w", err)
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	if err := readReply(r); err != nil {
		return 0, err
	}
	return readRecords(r, lim, each)
}
