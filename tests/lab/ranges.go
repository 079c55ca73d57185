package lab

import "slices"

// ranges is a set of numbers as intervals, in order and apart from each other.
type ranges []interval

// interval is from lo to before hi.
type interval struct{ lo, hi int64 }

// add puts an interval into the set.
func (r *ranges) add(lo, hi int64) {
	if lo >= hi {
		return
	}
	s := *r
	// All that touch the new one become one with it.
	i := s.search(lo)
	j := i
	for ; j < len(s) && s[j].lo <= hi; j++ {
		lo, hi = min(lo, s[j].lo), max(hi, s[j].hi)
	}
	*r = slices.Replace(s, i, j, interval{lo, hi})
}

// covers reports whether all of an interval is in the set.
func (r ranges) covers(lo, hi int64) bool {
	i := r.search(lo)
	return i < len(r) && r[i].lo <= lo && hi <= r[i].hi
}

// search finds the first interval that ends at n or later.
func (r ranges) search(n int64) int {
	i, _ := slices.BinarySearchFunc(r, n, func(v interval, n int64) int {
		if v.hi < n {
			return -1
		}
		return 1
	})
	return i
}
