package records_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/netstack"
)

// lossy carries packets to another host and loses one in a hundred.
type lossy struct {
	to  atomic.Pointer[netstack.Host]
	rng *rand.Rand
}

func (l *lossy) SendPacket(pkt []byte) {
	if to := l.to.Load(); to != nil && l.rng.IntN(100) > 0 {
		to.Inject(pkt)
	}
}

// As in a gateway: the stream between two sites runs in the tunnel, which loses
// packets, and the fetcher was restarted in the middle of a fetch.
func TestFetchThroughTheTunnel(t *testing.T) {
	const n = 20_000
	red, gray := netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.2.1")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var hosts [2]*netstack.Host
	var wires [2]*lossy
	for i, a := range []netip.Addr{red, gray} {
		wires[i] = &lossy{rng: rand.New(rand.NewPCG(uint64(i), 1))}
		h, err := netstack.New(netstack.Config{Addresses: []netip.Addr{a}, MTU: 1420, Output: wires[i], Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
		wg.Go(func() { h.Run(ctx) })
	}
	wires[0].to.Store(hosts[1])
	wires[1].to.Store(hosts[0])

	l, err := hosts[1].Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	srv := &records.Server{
		Site: func(a netip.Addr) (string, bool) { return "red", a == red },
		Records: func(string) records.Snapshot {
			return func(yield func(key, value []byte) bool) {
				for i := range n {
					if !yield(fmt.Appendf(nil, "flow %d", i), bytes.Repeat([]byte{byte(i)}, 80)) {
						return
					}
				}
			}
		},
		Quota: records.NewQuota(), Logger: hclog.NewNullLogger(),
	}
	wg.Go(func() {
		if err := srv.Run(ctx, l); err != nil {
			t.Error(err)
		}
	})

	// The one that dies: it asks and takes no more than the greeting.
	dead, err := hosts[0].Dial(ctx, netip.AddrPortFrom(gray, 9771))
	if err != nil {
		t.Fatal(err)
	}
	request := append([]byte("gwrf"), 0, 1, 3, 'r', 'e', 'd')
	if _, err := dead.Write(request); err != nil {
		t.Fatal(err)
	}
	var reply [7]byte
	if _, err := dead.Read(reply[:]); err != nil || binary.BigEndian.Uint16(reply[4:]) != 1 {
		t.Fatalf("%x, %v", reply, err)
	}

	conn, err := hosts[0].Dial(ctx, netip.AddrPortFrom(gray, 9771))
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	got, err := records.Fetch(ctx, conn, "red", records.Limits{}, func(k, v []byte) {
		if string(k) != fmt.Sprintf("flow %d", i) || len(v) != 80 || v[79] != byte(i) {
			t.Fatalf("record %d is %q %x", i, k, v)
		}
		i++
	})
	if err != nil || got != n {
		t.Errorf("%d records, %v", got, err)
	}

	cancel()
	wg.Wait()
	for _, h := range hosts {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}
