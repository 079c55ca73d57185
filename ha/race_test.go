//go:build race

package ha

// seedsByDefault is small under the race detector: there is one goroutine per
// world, and time matters.
const seedsByDefault = 500
