//go:build !race

package legs

const slowdown = 1
