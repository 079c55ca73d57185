package hello

import "time"

// otherVersion is a version of the protocol that this node does not speak, and that messages from
// the peer's address name. Such a message proves nothing, so it counts only if it is repeated for
// an interval while no hello of this version is proven.
type otherVersion struct {
	version     uint8
	first, last time.Duration
}

// heard notes a message, and reports whether the version has been repeated for an interval.
func (o *otherVersion) heard(now time.Duration, version uint8, interval time.Duration) bool {
	if o.version != version || now-o.last >= missed*interval {
		*o = otherVersion{version: version, first: now}
	}
	o.last = now
	return now-o.first >= interval
}

// stranger handles a message of another version. It is answered by a hello, at a limited rate, so
// that each side learns the other's version.
func (p *Peer) stranger(now time.Duration, theirs uint8, out *Output) {
	lasting := p.other.heard(now, theirs, p.cfg.Interval)
	proven := p.twoWayAt > 0 && now-p.twoWayAt < missed*p.cfg.Interval
	if lasting && !proven && (p.state != Refused || p.theirs == Version) {
		p.theirs = theirs
		p.probe.on = false
		p.set(now, Refused)
		out.Events = append(out.Events, EventRefused)
	}
	if !p.ended && p.limits.versions.take(now) {
		p.live = true
		p.hello(now, out, false)
	}
}
