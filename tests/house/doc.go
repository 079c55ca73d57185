// Package house holds the rules of the house as tests: who may import what, and
// that every package has a comment.
package house
