//go:build !race

package ha

const seedsByDefault = 100_000
