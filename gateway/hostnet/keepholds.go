package hostnet

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watchAgain is how long keepHolds waits after the kernel has stopped to report routes.
const watchAgain = time.Second

// keepHolds puts a hold back when another program removes it: systemd-networkd, for one, removes
// the routes that it did not make. It watches the namespace of the calling thread until ctx ends.
func keepHolds(ctx context.Context, prefixes []netip.Prefix, log hclog.Logger) error {
	for {
		if err := watchHolds(ctx, prefixes, log); err != nil && ctx.Err() == nil {
			log.Warn("holds are not watched for a second: a hold that another program removes stays missing", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchAgain):
		}
	}
}

func watchHolds(ctx context.Context, prefixes []netip.Prefix, log hclog.Logger) error {
	updates, done := make(chan netlink.RouteUpdate), make(chan struct{})
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) { log.Debug("watch routes", "error", err) },
	}); err != nil {
		close(done)
		return err
	}
	defer func() {
		close(done)
		for range updates { // until its goroutine has ended
		}
	}()
	if err := Hold(prefixes); err != nil { // those removed before the subscription
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, open := <-updates:
			if !open {
				return errors.New("the kernel reported more routes than could be read")
			}
			p := prefixOf(u.Dst)
			if u.Type != unix.RTM_DELROUTE || u.Protocol != RouteProtocol || !isHold(&u.Route) || !slices.Contains(prefixes, p) {
				continue
			}
			if err := Hold([]netip.Prefix{p}); err != nil {
				return err
			}
			log.Warn("hold put back: another program removed it", "prefix", p)
		}
	}
}
