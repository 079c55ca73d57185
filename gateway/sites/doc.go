// Package sites is the Board: which node carries each site, and what the path to it is like.
//
//	board.go   the state, its one lock, and the answer to "when is a connection relayed?"
//	events.go  events, which are posted and never waited for
//	loss.go    how much a path loses, by what trunks retransmit
//
// The link, the election and the probes write to the Board; the data path is told under the
// Board's lock, so that no update can be lost. What takes longer, such as releasing relays, is done
// by listeners in the goroutine of Run.
package sites
