// Package deb tests the package that `make deb` builds, on machines of its own: a
// copy of this one's files, to which nothing is written back, with systemd as the
// first process, in a network namespace of the lab. `make deb-test` runs it; it
// takes minutes, most of them to build the packages.
package deb
