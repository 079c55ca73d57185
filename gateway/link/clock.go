package link

import (
	"fmt"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// clockTolerance is what a clock may be slewed by without being called late.
const clockTolerance = 100 * time.Millisecond

// clockWatch notices a wall clock that was set back. A handshake carries the
// time (TAI64N) so that old ones can't be replayed, and a responder refuses
// one that is not newer than the last: a node whose clock was set back can't
// renew its sessions until it has caught up.
type clockWatch struct {
	latest time.Time // of a handshake, by the wall clock
	late   bool      // the clock ran behind at the latest call of check
}

// used notes that a handshake was made at wall time t.
func (c *clockWatch) used(t time.Time) {
	if t = t.Round(0); t.After(c.latest) { // Round strips the monotonic reading
		c.latest = t
	}
}

// accepted notes that a handshake made at wall time t succeeded: the peer remembers none that is
// later.
func (c *clockWatch) accepted(t time.Time) { c.latest = t.Round(0) }

// behind is how far the clock runs behind the last handshake; 0 when it doesn't.
func (c *clockWatch) behind(now time.Time) time.Duration {
	if d := c.latest.Sub(now.Round(0)); d > clockTolerance {
		return d
	}
	return 0
}

// check reports once that the clock has begun to run behind, and once that it
// has caught up.
func (c *clockWatch) check(now time.Time) (behind time.Duration, changed bool) {
	behind = c.behind(now)
	changed = c.late != (behind > 0)
	c.late = behind > 0
	return behind, changed
}

// The responder keeps the time of the latest handshake in wireguard-go, which takes the time of a
// new one from the wall clock; neither can be set from outside. What remains is that the responder
// forgets: it removes the peer from the device and adds it again. It does so only when the dialler
// asks inside the tunnel, while the session from before the step is still valid. docs/design.md,
// section 6, says why no other evidence suffices.
const (
	// forgetAfter is how long the responder keeps the session after it has agreed, so that the
	// dialler receives the answer. The dialler dials after twice that time.
	forgetAfter = 100 * time.Millisecond
	// maxReplays is how many refused handshakes may wait for the loop.
	maxReplays = 16
	// replayShown is how long after the latest refused handshake a peer's clock counts as set
	// back. A peer that doesn't answer is dialled every 15 s at least.
	replayShown = 2 * dialMost
)

// watchClock tells whether the wall clock runs behind the last handshake with a peer that this node
// dials. If it won't have caught up when the session must be renewed, the peer is asked to forget.
func (l *Link) watchClock(p *peer, now time.Duration) {
	if !p.dials() {
		return
	}
	behind, changed := p.clock.check(l.wall())
	switch {
	case changed && behind > 0:
		p.log.Error("clock", "wall clock runs behind the last handshake and the peer takes new ones for replays: set the clock right, or wait",
			"behind", behind)
	case changed:
		p.log.Info("clock", "wall clock no longer runs behind the last handshake")
	}
	if p.live && behind > device.RekeyAfterTime-(now-p.renewedAt) {
		l.do(p, p.hello.SetBack(now))
	}
}

// dialInThePast renews the session after the peer has agreed to forget the last handshake's time.
func (l *Link) dialInThePast(p *peer) {
	if !p.dials() {
		return
	}
	now := l.now()
	p.log.Info("clock", "the peer accepts handshakes of this node's present time from now on: renewing the session")
	p.clock = clockWatch{late: p.clock.late}
	p.live = false
	l.do(p, p.hello.Session(now, false))
	p.dial.start(now)
	p.dial.nextAt = now + 2*forgetAfter
}

// forgetTime has the device forget the time of the peer's last handshake, and with it the session.
func (l *Link) forgetTime(p *peer) {
	p.forgetAt = never
	text, err := l.dev.IpcGet()
	if err != nil {
		return // the device is being closed
	}
	p.log.Warn("clock", "the peer's clock was set back: accepting a handshake that is older than its last one")
	if err := l.dev.IpcSet(againText(p.PublicKey, allowedIPs(text, p.PublicKey))); err != nil {
		p.log.Error("clock", "the device could not replace the peer: restart gw here", "error", err)
	}
	p.live = false
	l.do(p, p.hello.Session(l.now(), false))
}

// replays are handshakes that wireguard-go has refused, since a later one was accepted before.
type replays struct {
	count uint64
	at    time.Duration // of the last one
}

// replayLine is how the text ends by which wireguard-go logs such a handshake, after the peer. It
// has decrypted the handshake: the peer has sent it, or somebody who has recorded it.
const replayLine = "ConsumeMessageInitiation: handshake replay @ %v"

// onReplay passes a line about a refused handshake to the loop. wireguard-go calls it with locks
// held.
func (l *Link) onReplay(format string, args []any) {
	if !strings.HasSuffix(format, replayLine) || len(args) == 0 {
		return
	}
	if wg, ok := args[0].(*device.Peer); ok {
		select {
		case l.replays <- wg:
		default:
		}
	}
}

// replayed counts a refused handshake.
func (l *Link) replayed(wg *device.Peer) {
	for _, p := range l.peers {
		if l.dev.LookupPeer(p.PublicKey) != wg {
			continue
		}
		p.replays.count++
		p.replays.at = l.now()
		if p.setBack(l.now()) {
			p.log.Error("replay", "handshakes of the peer are refused as replays: its clock was set back, or somebody sends recorded ones; "+
				"set the clock there right, or restart gw here", "refused", p.replays.count)
		}
	}
}

// setBack reports whether refused handshakes keep the peer from renewing its session. A recorded
// handshake that somebody sends to a link in good order doesn't count.
func (p *peer) setBack(now time.Duration) bool {
	if p.replays.count == 0 || now-p.replays.at >= replayShown || p.renewedAt > p.replays.at {
		return false
	}
	return now-p.renewedAt > device.RekeyAfterTime || !p.state(now).Up
}

// againText removes a peer and adds it with the addresses that it has.
func againText(key [32]byte, addresses []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%x\nremove=true\npublic_key=%x\n", key, key)
	for _, a := range addresses {
		fmt.Fprintf(&b, "allowed_ip=%s\n", a)
	}
	return b.String()
}

// allowedIPs returns the addresses of a peer in what the device answers to "get".
func allowedIPs(text string, key [32]byte) (out []string) {
	mine := false
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch k {
		case "public_key":
			mine = v == fmt.Sprintf("%x", key)
		case "allowed_ip":
			if mine {
				out = append(out, v)
			}
		}
	}
	return out
}
