// Package gateway puts a node together and runs it: it is the only place where
// the parts meet that know nothing of each other.
//
//	gateway.go  construction, lifetimes, order of closing
//	pairing.go  this node's part in an election, and the LAN's address
//	source.go   snapshots for status and control
package gateway
