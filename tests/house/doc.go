// Package house holds the rules of the house as tests: who may import what, and
// that every package says what it is for.
package house
