// Package denials aggregates refused traffic, so that an attempt is visible and a flood of
// attempts is not a flood of lines. A [Ledger] counts refused packets by source site, reason,
// protocol and destination address, in memory that is bounded for each site: beyond KeysPerSite
// destinations a site's packets count as one aggregate for the rest. [Ledger.Due] returns what is
// due for a line: the first packets of a key at once, what follows once a minute.
package denials

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// KeysPerSite is how many keys a Ledger tells apart for each source site. One site cannot use
	// up the keys of another.
	KeysPerSite = 32
	// Interval is the least time between two reports of one key.
	Interval = time.Minute
	// maxSources is how many source addresses of a key are kept.
	maxSources = 8
	// maxPorts is how many ports of a key are listed.
	maxPorts = 8
)

// Attempt is one refused packet, or one refused question about a packet.
type Attempt struct {
	// Site is the index of the site that the packet came from, -1 for an address of no site.
	Site int
	// Reason is a constant of the code, never a text that a peer chose.
	Reason string
	Proto  uint8
	// Source and Destination have port 0 where the protocol has no ports.
	Source, Destination netip.AddrPort
}

// Report aggregates the attempts of one key. Times are on the clock of [Ledger.Note].
type Report struct {
	Site int // as in Attempt
	// Reason, Proto and Destination are the key. They are zero for the aggregate of all attempts
	// for which there was no key left; its Destinations is then a lower bound of how many addresses
	// they went to.
	Reason       string
	Proto        uint8
	Destination  netip.Addr
	Destinations int
	// Sources are the first source addresses, at most 8; MoreSources says that there were others.
	Sources     []netip.Addr
	MoreSources bool
	// Ports are the lowest destination ports, at most 8, and PortCount is how many there were.
	Ports     []uint16
	PortCount int
	Packets   uint64
	// First and Last are the times of the first and the last of these attempts.
	First, Last time.Duration
}

// Others says whether the report is the aggregate beyond KeysPerSite.
func (r *Report) Others() bool { return !r.Destination.IsValid() }

// Count is how many packets of a site were refused for one reason since the start.
type Count struct {
	Site    int // as in Attempt
	Reason  string
	Packets uint64
}

// Ledger counts attempts. Its methods are safe for concurrent use; those of a nil Ledger do
// nothing.
type Ledger struct {
	bySite []book // by Attempt.Site + 1
	seed   maphash.Seed
}

// New makes a Ledger for so many sites.
func New(sites int) *Ledger {
	return &Ledger{bySite: make([]book, sites+1), seed: maphash.MakeSeed()}
}

// key tells attempts apart. The ports are aggregated.
type key struct {
	reason string
	proto  uint8
	to     netip.Addr
}

// book holds the attempts of one site.
type book struct {
	mu      sync.Mutex
	entries map[key]*entry
	others  *entry
	counts  []Count // by reason, of which there are few
	// full is until when no key can have become free; see room.
	full time.Duration
}

// entry is what is known of one key. The sums since its last report have the prefix new.
type entry struct {
	total       uint64
	first, last time.Duration
	lastPort    uint16

	reported bool
	at       time.Duration // of the last report
	newCount uint64
	newFirst time.Duration
	sources  []netip.Addr
	more     bool
	// ports holds the new destination ports; of the aggregate, hashes of destinations.
	ports set
}

// Note counts an attempt at the time now. It allocates only for a key that it keeps.
func (l *Ledger) Note(now time.Duration, a *Attempt) {
	if l == nil || a.Site < -1 || a.Site+1 >= len(l.bySite) {
		return
	}
	b := &l.bySite[a.Site+1]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(a)
	k := key{a.Reason, a.Proto, a.Destination.Addr()}
	e := b.entries[k]
	if e == nil {
		e = b.room(now, k)
	}
	member := a.Destination.Port()
	if e == b.others {
		address := a.Destination.Addr().As16()
		member = uint16(maphash.Bytes(l.seed, address[:]))
	}
	e.note(now, a, member)
}

func (b *book) count(a *Attempt) {
	for i := range b.counts {
		if b.counts[i].Reason == a.Reason {
			b.counts[i].Packets++
			return
		}
	}
	b.counts = append(b.counts, Count{a.Site, a.Reason, 1})
}

// room returns a new entry for k, if need be in place of one that has been silent for an
// Interval, or the aggregate of the others.
func (b *book) room(now time.Duration, k key) *entry {
	if b.entries == nil {
		b.entries = make(map[key]*entry)
		b.others = &entry{}
	}
	if len(b.entries) >= KeysPerSite && !b.evict(now) {
		return b.others
	}
	e := &entry{}
	b.entries[k] = e
	return e
}

// evict removes the entry that has been silent for longest, and reports whether one was silent for
// an Interval with nothing left to report. In a flood it looks once for each Interval that passes.
func (b *book) evict(now time.Duration) bool {
	if now < b.full {
		return false
	}
	var oldest key
	at := time.Duration(-1)
	b.full = now + Interval
	for k, e := range b.entries {
		free := max(e.last, e.at) + Interval
		switch {
		case e.newCount > 0:
		case free > now:
			b.full = min(b.full, free)
		case at < 0 || e.last < at:
			oldest, at = k, e.last
		}
	}
	if at < 0 {
		return false
	}
	b.full = 0 // others may be free as well
	delete(b.entries, oldest)
	return true
}

func (e *entry) note(now time.Duration, a *Attempt, member uint16) {
	if e.total == 0 {
		e.first = now
	}
	if e.newCount == 0 {
		e.newFirst = now
	}
	e.total++
	e.newCount++
	e.last, e.lastPort = now, a.Destination.Port()
	e.ports.add(member)
	switch src := a.Source.Addr(); {
	case slices.Contains(e.sources, src):
	case len(e.sources) < maxSources:
		e.sources = append(e.sources, src)
	default:
		e.more = true
	}
}

// Due returns the reports that are due at the time now, and takes them out of the sums: of each
// key at once after its first attempt, and then once an Interval as long as there are new ones.
// With all, nothing waits.
func (l *Ledger) Due(now time.Duration, all bool) []Report {
	if l == nil {
		return nil
	}
	var out []Report
	l.each(func(site int, k key, e *entry) {
		if e.newCount == 0 || !all && e.reported && now-e.at < Interval {
			return
		}
		out = append(out, e.report(site, k))
		e.reported, e.at = true, now
	})
	slices.SortFunc(out, func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.First, b.First), a.Destination.Compare(b.Destination), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Proto, b.Proto))
	})
	return out
}

// each calls do for each key of each site, and for the aggregates with the zero key, with the
// site's lock held.
func (l *Ledger) each(do func(site int, k key, e *entry)) {
	for i := range l.bySite {
		b := &l.bySite[i]
		b.mu.Lock()
		for k, e := range b.entries {
			do(i-1, k, e)
		}
		if b.others != nil && b.others.total > 0 {
			do(i-1, key{}, b.others)
		}
		b.mu.Unlock()
	}
}

// report makes a report of what is new since the previous one.
func (e *entry) report(site int, k key) Report {
	r := Report{
		Site: site, Reason: k.reason, Proto: k.proto, Destination: k.to,
		Sources: slices.Clone(e.sources), MoreSources: e.more,
		Packets: e.newCount, First: e.newFirst, Last: e.last,
	}
	if r.Others() {
		r.Destinations = e.ports.len()
	} else {
		r.Ports, r.PortCount = e.ports.list(maxPorts)
	}
	e.newCount, e.sources, e.more = 0, e.sources[:0], false
	e.ports.clear()
	return r
}

// Top returns the n keys with the most attempts since they were first seen, over all sites. Ports
// holds the latest port only. A key that was silent for long may have been forgotten for another.
func (l *Ledger) Top(n int) []Report {
	if l == nil {
		return nil
	}
	var out []Report
	l.each(func(site int, k key, e *entry) {
		r := Report{Site: site, Reason: k.reason, Proto: k.proto, Destination: k.to, Packets: e.total, First: e.first, Last: e.last}
		if !r.Others() && e.lastPort != 0 {
			r.Ports = []uint16{e.lastPort}
		}
		out = append(out, r)
	})
	slices.SortFunc(out, func(a, b Report) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Site, b.Site), a.Destination.Compare(b.Destination),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Proto, b.Proto))
	})
	return out[:min(n, len(out))]
}

// Counts returns how many attempts there were since the start, by site and reason.
func (l *Ledger) Counts() []Count {
	if l == nil {
		return nil
	}
	var out []Count
	for i := range l.bySite {
		b := &l.bySite[i]
		b.mu.Lock()
		out = append(out, b.counts...)
		b.mu.Unlock()
	}
	return out
}
