package trunk

import (
	"cmp"
	"slices"
)

// span is the numbers from from on, up to but not including to.
type span struct{ from, to uint64 }

func (s span) len() uint64 { return s.to - s.from }

// ranges is a set of numbers: spans in ascending order that neither overlap nor touch.
type ranges []span

// find returns the index of the first span that ends at n or later.
func (r ranges) find(n uint64) int {
	if last := len(r) - 1; last >= 0 && n > r[last].to {
		return last + 1
	}
	i, _ := slices.BinarySearchFunc(r, n, func(s span, n uint64) int { return cmp.Compare(s.to, n) })
	return i
}

// add puts a span into the set.
func (r *ranges) add(s span) {
	if s.from >= s.to {
		return
	}
	i := r.find(s.from)
	j := i
	for j < len(*r) && (*r)[j].from <= s.to {
		s.from, s.to = min(s.from, (*r)[j].from), max(s.to, (*r)[j].to)
		j++
	}
	if j == i+1 {
		(*r)[i] = s
		return
	}
	*r = slices.Replace(*r, i, j, s)
}

// remove takes a span out of the set.
func (r *ranges) remove(s span) {
	if s.from >= s.to {
		return
	}
	i := r.find(s.from)
	if i < len(*r) && (*r)[i].to == s.from {
		i++
	}
	if i == len(*r) || (*r)[i].from >= s.to {
		return
	}
	var rest [2]span
	kept := rest[:0]
	if first := (*r)[i]; first.from < s.from {
		kept = append(kept, span{first.from, s.from})
	}
	j := i
	for j < len(*r) && (*r)[j].from < s.to {
		j++
	}
	if last := (*r)[j-1]; last.to > s.to {
		kept = append(kept, span{s.to, last.to})
	}
	*r = slices.Replace(*r, i, j, kept...)
}

// has reports whether all of a span is in the set.
func (r ranges) has(s span) bool {
	i := r.find(s.from)
	if i < len(r) && r[i].to == s.from {
		i++
	}
	return i < len(r) && r[i].from <= s.from && s.to <= r[i].to
}

// touches reports whether a span of the set overlaps or touches s.
func (r ranges) touches(s span) bool {
	i := r.find(s.from)
	return i < len(r) && r[i].from <= s.to
}

// pop takes out what lies below n or goes on from there, and returns where that ends.
func (r *ranges) pop(n uint64) uint64 {
	i := 0
	for i < len(*r) && (*r)[i].from <= n {
		n = max(n, (*r)[i].to)
		i++
	}
	if i > 0 {
		*r = slices.Delete(*r, 0, i)
	}
	return n
}
