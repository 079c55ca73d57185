package hostnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A legacyTables holds the layout of one IP version's iptables from before nftables
// (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).
type legacyTables struct {
	command           string // the program that changes them
	names             string // the file in /proc that lists those in use
	core, module      string // the kernel modules of all tables and of "filter"
	domain, level     int    // of the socket to ask
	iniface, outiface int    // offsets in an entry
	proto             int    // the same, of the protocol
	inverts           int    // the same, of the flags that invert comparisons
	targetOffset      int    // the same, of the field target_offset; next_offset follows
	matches           int    // the same, of the first match
}

var (
	legacy4 = legacyTables{"iptables-legacy", "ip_tables_names", "ip_tables", "iptable_filter", unix.AF_INET, unix.SOL_IP, 16, 32, 80, 83, 88, 112}
	legacy6 = legacyTables{"ip6tables-legacy", "ip6_tables_names", "ip6_tables", "ip6table_filter", unix.AF_INET6, unix.SOL_IPV6, 64, 80, 128, 132, 140, 168}
)

// among reports whether these are the tables of one of the IP versions.
func (t legacyTables) among(v4, v6 bool) bool {
	return t.domain == unix.AF_INET && v4 || t.domain == unix.AF_INET6 && v6
}

// Option names and layouts, alike in both families.
const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
	hookForward  = 2  // NF_INET_FORWARD

	legacyNameLen    = 32 // XT_TABLE_MAXNAMELEN
	legacyEntriesAt  = 40 // where the entries begin in struct ipt_get_entries
	legacyVerdictAt  = 32 // where the verdict is in struct xt_standard_target
	legacyTargetName = 2  // where its name is: empty for a verdict
	verdictDrop      = -1 // -NF_DROP - 1
	verdictAccept    = -2 // -NF_ACCEPT - 1
)

// A legacyInfo is struct ipt_getinfo.
type legacyInfo struct {
	Name       [legacyNameLen]byte
	ValidHooks uint32
	HookEntry  [5]uint32
	Underflow  [5]uint32
	Entries    uint32
	Size       uint32
}

// checkLegacyFirewall does for iptables what checkFirewall does for nftables, but looks at the
// policy only and at no last rule.
func checkLegacyFirewall(c CheckConfig, v4, v6 bool) (found []Finding) {
	for _, t := range []legacyTables{legacy4, legacy6} {
		if !t.among(v4, v6) {
			continue
		}
		missing, err := t.missing(c.Device)
		if err != nil {
			found = append(found, notChecked("the firewall of "+t.command, err)...)
			continue
		}
		if len(missing) == 0 {
			continue
		}
		var cmds []string
		for _, way := range missing {
			option := map[string]string{directionIn: "-i", directionOut: "-o"}[way]
			cmds = append(cmds, fmt.Sprintf("%s -I FORWARD %s %s -j ACCEPT", t.command, option, c.Device))
		}
		found = append(found, Finding{Warning,
			fmt.Sprintf("the FORWARD policy of %s drops forwarded packets, and no rule accepts those of %q", t.command, c.Device),
			strings.Join(cmds, " && ")})
	}
	return found
}

// missing lists the directions for which no accepting rule names the device, if the FORWARD chain's
// policy is to drop.
func (t legacyTables) missing(device string) ([]string, error) {
	info, entries, err := t.filter()
	if err != nil || entries == nil {
		return nil, err
	}
	return t.judge(info, entries, device), nil
}

// filter reads the table "filter", if it is in use; otherwise entries is nil.
func (t legacyTables) filter() (info legacyInfo, entries []byte, err error) {
	// To ask for a table makes it: ask only for one that is in use.
	names, err := os.ReadFile("/proc/thread-self/net/" + t.names)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return info, nil, nil
	case errors.Is(err, os.ErrPermission): // root alone may read the list
		if !t.maybeUsed() {
			return info, nil, nil
		}
	case err != nil:
		return info, nil, err
	case !slices.Contains(strings.Fields(string(names)), "filter"):
		return info, nil, nil
	}
	if info, entries, err = t.read(); err != nil {
		return info, nil, fmt.Errorf("the table filter is in use and can't be read: %w", err)
	}
	return info, entries, nil
}

// maybeUsed reports whether the kernel has the table "filter", in this network namespace or in
// another one: unless its module is not loaded. To ask for the table then makes at most an empty
// one, and loads nothing.
func (t legacyTables) maybeUsed() bool {
	loaded := func(module string) bool {
		_, err := os.Stat("/sys/module/" + module)
		return err == nil
	}
	return loaded(t.module) || !loaded(t.core) // a core that is built in has the filter built in
}

// judge is missing for a table at hand.
func (t legacyTables) judge(info legacyInfo, entries []byte, device string) []string {
	policy, _, ok := t.entry(entries, int(info.Underflow[hookForward]))
	if !ok || policy.verdict != verdictDrop {
		return nil
	}
	missing := []string{directionIn, directionOut}
	for at := 0; at < len(entries); {
		e, next, ok := t.entry(entries, at)
		if !ok {
			break
		}
		missing = slices.DeleteFunc(missing, func(way string) bool {
			return e.verdict == verdictAccept && (way == directionIn && e.in == device || way == directionOut && e.out == device)
		})
		at = next
	}
	return missing
}

// A legacyEntry is what matters here of struct ipt_entry or ip6t_entry.
type legacyEntry struct {
	in, out string
	verdict int32  // 0 if the target is something else
	target  string // its name; empty for a verdict
}

// entry reads the entry at an offset, and where the next one begins.
func (t legacyTables) entry(entries []byte, at int) (e legacyEntry, next int, ok bool) {
	if at+t.targetOffset+4 > len(entries) {
		return e, 0, false
	}
	b := entries[at:]
	target := int(binary.NativeEndian.Uint16(b[t.targetOffset:]))
	size := int(binary.NativeEndian.Uint16(b[t.targetOffset+2:]))
	if size == 0 || size > len(b) || target+legacyVerdictAt > size {
		return e, 0, false
	}
	e.in, e.out = text(b[t.iniface:][:unix.IFNAMSIZ]), text(b[t.outiface:][:unix.IFNAMSIZ])
	e.target = text(b[target+legacyTargetName : target+legacyVerdictAt-1])
	if target+legacyVerdictAt+4 <= size && e.target == "" {
		e.verdict = int32(binary.NativeEndian.Uint32(b[target+legacyVerdictAt:]))
	}
	return e, at + size, true
}

// text is the C string in b.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// read gets the table "filter" with all its entries from the kernel.
func (t legacyTables) read() (info legacyInfo, entries []byte, err error) {
	fd, err := unix.Socket(t.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return info, nil, err
	}
	defer unix.Close(fd)
	copy(info.Name[:], "filter")
	if err := getsockopt(fd, t.level, soGetInfo, unsafe.Pointer(&info), unsafe.Sizeof(info)); err != nil {
		return info, nil, err
	}
	buf := make([]byte, legacyEntriesAt+int(info.Size))
	copy(buf, "filter")
	binary.NativeEndian.PutUint32(buf[legacyNameLen:], info.Size)
	if err := getsockopt(fd, t.level, soGetEntries, unsafe.Pointer(&buf[0]), uintptr(len(buf))); err != nil {
		return info, nil, err
	}
	return info, buf[legacyEntriesAt:], nil
}

func getsockopt(fd, level, opt int, p unsafe.Pointer, size uintptr) error {
	n := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(p), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
