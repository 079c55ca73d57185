// Package restore restores the flows that this process has not seen open: from the file that the
// process before it left, from the sibling, and from the gateways of other sites, which know what
// that process had no time to write.
//
//	restore.go   the file, and the other sites: when to fetch, from whom, and what is served to them
//	recorder.go  the data path's records, to the file and to the sibling, and the sibling's to the table
package restore
