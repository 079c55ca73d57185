package conntrack

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Usage is how full the table of tracked connections is.
type Usage struct {
	// Entries are in the table, which holds at most Limit. Both are 0 on a host that has no
	// connection tracking.
	Entries, Limit uint64
	// Drops counts packets of new connections that were dropped since the table was full.
	Drops uint64
}

// Full reports whether the table has no room for a new connection.
func (u Usage) Full() bool { return u.Limit > 0 && u.Entries >= u.Limit }

// nearlyFull allows for entries that end while the table is full.
func (u Usage) nearlyFull() bool { return u.Limit > 0 && u.Entries >= u.Limit-u.Limit/50 }

// ReadUsage reads what the kernel counts. A host without connection tracking has no usage and
// causes no error.
func ReadUsage() (Usage, error) {
	return readUsage("/proc/sys/net/netfilter", "/proc/thread-self/net/stat/nf_conntrack")
}

func readUsage(settings, stat string) (u Usage, err error) {
	for _, f := range []struct {
		name string
		to   *uint64
	}{{"nf_conntrack_count", &u.Entries}, {"nf_conntrack_max", &u.Limit}} {
		b, err := os.ReadFile(settings + "/" + f.name)
		if errors.Is(err, os.ErrNotExist) {
			return Usage{}, nil
		}
		if err == nil {
			*f.to, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		}
		if err != nil {
			return Usage{}, fmt.Errorf("read %s: %w", f.name, err)
		}
	}
	b, err := os.ReadFile(stat)
	if errors.Is(err, os.ErrNotExist) {
		return u, nil // a kernel without CONFIG_NF_CONNTRACK_PROCFS does not count
	}
	if err == nil {
		u.Drops, err = sum(string(b), "drop")
	}
	if err != nil {
		return Usage{}, fmt.Errorf("read %s: %w", stat, err)
	}
	return u, nil
}

// sum adds up a column of a table with a title, a line for each processor, and hexadecimal numbers.
func sum(table, column string) (total uint64, err error) {
	title, rows, _ := strings.Cut(table, "\n")
	at := slices.Index(strings.Fields(title), column)
	if at < 0 {
		return 0, fmt.Errorf("it has no column %q", column)
	}
	for row := range strings.Lines(rows) {
		fields := strings.Fields(row)
		if at >= len(fields) {
			return 0, fmt.Errorf("a line has no column %q", column)
		}
		n, err := strconv.ParseUint(fields[at], 16, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
