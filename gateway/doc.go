// Package gateway puts a node together and runs it: it is the only place where
// the parts meet that know nothing of each other.
//
//	gateway.go  construction, lifetimes, order of closing
//	restore.go  records of flows: from the file, and from the other sites
//	source.go   snapshots for status and control
//	auditing.go lines of the audit log
package gateway
