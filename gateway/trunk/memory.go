package trunk

import "sync/atomic"

// DefaultMemory is the budget, in bytes, of a Pool whose Config names none. It fits a machine
// with 512 MB; one peer alone gets half of it, which is what a path of 1 Gbit/s with a round trip
// of 250 ms has under way.
const DefaultMemory = 64 << 20

// budget bounds the memory of all trunks of a Pool: the blocks that hold what was sent and not
// acknowledged, or received and not consumed.
//
// It is shared by dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking
// 1998): a peer may hold no more than what is free. One peer can take half, two a third each, and
// there is always something left for the next.
type budget struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Uint64 // trunks that ended since it was exhausted
}

// account is what one peer has taken of a budget. It belongs to the path's lock. A nil account is
// without bounds.
type account struct {
	budget *budget
	used   int64
}

// take takes n bytes of the budget, or reports false.
func (a *account) take(n int) bool {
	if a == nil {
		return true
	}
	total := a.budget.used.Add(int64(n))
	if a.used+int64(n) > a.budget.limit-total {
		a.budget.used.Add(int64(-n))
		return false
	}
	a.used += int64(n)
	return true
}

// give returns n bytes.
func (a *account) give(n int) {
	if a != nil {
		a.used -= int64(n)
		a.budget.used.Add(int64(-n))
	}
}
