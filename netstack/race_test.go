//go:build race

package netstack

// The race detector makes a stack some ten times as slow: tests move less then.
const slowdown = 8
