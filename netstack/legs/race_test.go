//go:build race

package legs

// The race detector makes a stack some ten times as slow: tests move less then.
const slowdown = 8
