// Package flow is the middle of the data path: it parses each packet once,
// finds its flow or asks policy whether there may be one, and forwards it raw
// or drops it with a named reason.
//
//	host ── Host.Read ──▶ Path.Read ──▶ link        (outbound)
//	host ◀── Host.Write ── Path.Write ◀── link      (inbound)
//
// Table decides, Path moves. The Table knows nothing of devices and the Path
// nothing of TCP, so that a way to carry a flow other than raw has one place to
// go: the verdict that Table gives and Path acts on.
//
// Path.Read has one caller at a time, as wireguard's tun.Device has; Path.Write
// may have several, one for each peer.
package flow
