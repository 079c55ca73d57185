// Package rule holds a leg to the rule that a gateway only repeats. A leg is the
// endpoint that stands in for the far database toward the near one (see package legs).
//
//   - Gate decides what the leg may send: no acknowledgement, window or byte that the far
//     database has not sent itself (gate.go).
//   - Checker judges, with a memory of its own, each segment that the Gate has passed
//     (checker.go). It is on where the configuration asks for it, and in tests.
//
// Neither does I/O, reads a clock or takes a lock: the relay that owns them does.
package rule
