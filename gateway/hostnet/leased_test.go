package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// keeper holds an address that no LAN has.
type keeper struct{ held atomic.Bool }

func (k *keeper) Hold()      { k.held.Store(true) }
func (k *keeper) Drop()      { k.held.Store(false) }
func (k *keeper) Held() bool { return k.held.Load() }

// TestLeased: the addresses are leased while they are held, renewed before they expire, and taken
// away once. An error ends nothing.
func TestLeased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := new(keeper)
		l := NewLeased(k, "gw0", addrs("10.77.1.254", "fd77:1::fe"), hclog.NewNullLogger())
		var mu sync.Mutex
		var did []string
		note := func(what string) error {
			mu.Lock()
			defer mu.Unlock()
			did = append(did, what)
			return errors.New("no such device")
		}
		l.lease = func(device string, a netip.Addr, d time.Duration) error {
			return note(fmt.Sprint("lease ", device, " ", a, " ", d))
		}
		l.end = func(device string, a netip.Addr) error { return note(fmt.Sprint("end ", device, " ", a)) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(did) != fmt.Sprint(want) {
				t.Errorf("%s: %q, want %q", when, did, want)
			}
			did = nil
		}
		leases := []string{"lease gw0 10.77.1.254 2s", "lease gw0 fd77:1::fe 2s"}
		ends := []string{"end gw0 10.77.1.254", "end gw0 fd77:1::fe"}
		later := func() { time.Sleep(leaseTime / 3) } // of the bubble's clock: until the next renewal

		later()
		check("before it is held")
		l.Hold()
		if !l.Held() {
			t.Error("the keeper does not hold")
		}
		check("held", leases...)
		later()
		check("later", leases...)
		l.Drop()
		if l.Held() {
			t.Error("the keeper still holds")
		}
		check("dropped", ends...)
		later()
		check("dropped, later")
		l.Hold()
		check("held again", leases...)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		check("ended")
	})
}
