//go:build !race

package netstack

const slowdown = 1
