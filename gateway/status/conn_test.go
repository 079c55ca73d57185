package status

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Select keeps only a window of the flows; the oracle sorts them all.
func TestSelectAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		all := make([]Conn, r.IntN(200))
		for i := range all {
			all[i] = Conn{
				Proto:  []string{"tcp", "udp"}[r.IntN(2)],
				Source: netip.AddrFrom4([4]byte{10, 77, 1, byte(r.IntN(20))}), SourcePort: uint16(i),
				// Few values, so that many are equal.
				BytesIn: r.Uint64N(10), BytesOut: r.Uint64N(10), Age: Seconds(r.Int64N(10)),
			}
		}
		q := Query{Order: []Order{ByBytes, ByAge}[r.IntN(2)], Limit: r.IntN(60)}

		want := slices.Clone(all)
		slices.SortFunc(want, func(a, b Conn) int { return q.Order.compare(&a, &b) })
		if q.Limit > 0 {
			want = want[:min(q.Limit, len(want))]
		}
		got := Select(slices.Values(all), q)
		if got.Total != len(all) {
			t.Fatalf("round %d: total %d of %d", round, got.Total, len(all))
		}
		if diff := cmp.Diff(want, got.Conns, compareAddr); diff != "" {
			t.Fatalf("round %d, %+v (-want +got):\n%s", round, q, diff)
		}
	}
}

func TestSelectIsBounded(t *testing.T) {
	many := func(yield func(Conn) bool) {
		for i := range MaxConns + 10 {
			if !yield(Conn{BytesIn: uint64(i)}) {
				return
			}
		}
	}
	got := Select(many, Query{Limit: MaxConns * 2})
	if got.Total != MaxConns+10 || len(got.Conns) != MaxConns || got.Conns[0].BytesIn != MaxConns+9 {
		t.Errorf("total %d, kept %d, first %d", got.Total, len(got.Conns), got.Conns[0].BytesIn)
	}
}

func TestParseOrder(t *testing.T) {
	for text, want := range map[string]Order{"": ByBytes, "bytes": ByBytes, "age": ByAge} {
		if got, err := ParseOrder(text); err != nil || got != want {
			t.Errorf("ParseOrder(%q) = %q, %v", text, got, err)
		}
	}
	if _, err := ParseOrder("idle"); err == nil {
		t.Error("took an unknown order")
	}
}
