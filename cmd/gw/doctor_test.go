package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
)

// TestDoctorText: what is wrong comes first, each with what to do.
func TestDoctorText(t *testing.T) {
	pair := paired()
	broken := brokenPair()
	pair.HA = &broken
	blocked := healthy()
	blocked.Links = []status.Link{{
		Peer: "gray-1", Site: "gray", State: status.LinkEstablishing, Endpoint: "203.0.113.10:51820", Initiator: true, TxBytes: 740,
	}}
	for name, s := range map[string]status.Status{
		"healthy": healthy(), "troubled": troubled(), "pair": paired(), "pair-broken": pair, "blocked": blocked,
	} {
		t.Run(name, func(t *testing.T) {
			r := doctor.Report{Node: s.Node, Site: s.Site, Running: true, Checks: doctor.Running(s, status.Status{Time: s.Started})}
			for _, c := range r.Checks {
				if (c.Do == "") != (c.Level == doctor.OK) {
					t.Errorf("%+v: who is not well is told what to do, and nobody else", c)
				}
			}
			text := doctorText(r, false)
			checkWidth(t, text)
			checkGolden(t, "doctor-"+name+".txt", text)
		})
	}
}

// TestDoctorWithoutGateway looks at the host by the file alone, and says so.
func TestDoctorWithoutGateway(t *testing.T) {
	dir := starter(t)
	key := filepath.Join(dir, "red-1.key")
	if _, err := os.Stat(key); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := gw("doctor", "-c", filepath.Join(dir, "site.hcl"), "--key", key, "--socket", filepath.Join(dir, "none.sock"))
	if code == exitUsage || !strings.Contains(stdout, "no gateway runs") || !strings.Contains(stdout, "host tun device") || !strings.Contains(stdout, "disk ") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	_, stderr, code = gw("doctor", "--socket", filepath.Join(dir, "none.sock"))
	if code != exitFailed || !strings.Contains(stderr, "gw doctor -c /etc/gw") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestPingText: refused, denied and time-out mean different things.
func TestPingText(t *testing.T) {
	took := func() []time.Duration {
		return []time.Duration{41 * time.Millisecond, 40 * time.Millisecond, 44 * time.Millisecond}
	}
	r := doctor.Pings{Node: "gray-1", Pings: []doctor.Ping{
		doctor.OfLink(healthy().Links[0]),
		doctor.OfLink(troubled().Links[1]),
		doctor.Tried("gateway", "gray-1", 3, took(), nil),
		doctor.Tried("gateway", "gray-1", 1, nil, context.DeadlineExceeded),
		doctor.Tried("port", "10.77.2.10:5432", 3, took(), nil),
	}}
	for _, err := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, context.DeadlineExceeded, errors.New("no more files")} {
		err = fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: err})
		r.Pings = append(r.Pings, doctor.Tried("port", "10.77.2.10:5432", 1, nil, err))
	}
	text := pingText(r, false)
	checkWidth(t, text)
	checkGolden(t, "ping.txt", text)
}
