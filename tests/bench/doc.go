// Package bench measures gw against two plain wireguard-go processes, and where
// that is cheap against no tunnel at all, on labs of the same shape in one
// process. What is compared takes turns, round by round, and the medians are
// compared, because the machine's speed differs more from minute to minute than
// the contestants do.
//
// All run on the processors that the traffic's ends use, too: figures per second
// are those of the machine as a whole, CPU seconds per GB are the gateways' alone.
// The latter is the measure to trust.
//
//	make bench
//	go test -run '^$' -bench Bulk -benchtime 1x ./tests/bench
package bench
