// Package host examines the host of a gateway for gw doctor: its network, the state directory's
// disk, and the clock.
package host

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
)

// Space that the state directory's disk should have. The records of a full table and their next
// version together take some 20 MB.
const (
	fewBytes = 256 << 20
	noBytes  = 32 << 20
)

// Judge judges a running gateway by a snapshot. *doctor.Watch is one.
type Judge interface {
	Checks(status.Status) []doctor.Check
}

var _ Judge = (*doctor.Watch)(nil)

// Examine examines this host for the node of cfg, and adds what a Judge has found about its
// gateway, which is nil if none runs. It changes nothing.
func Examine(cfg configs.Config, running []doctor.Check) doctor.Report {
	r := doctor.Report{Node: cfg.SelfNode().Name, Site: cfg.SelfSite().Name, Time: time.Now(), Running: running != nil}
	r.Checks = append(r.Checks, checks(hostnet.Survey(parts.HostSpec(cfg).Check))...)
	r.Checks = append(r.Checks, diskCheck(cfg.Local.StateDir))
	r.Checks = append(r.Checks, running...)
	return r
}

// Routes returns what answers gw doctor on the control socket of the node of cfg.
func Routes(cfg configs.Config, source status.StatusSource, judge Judge) []control.Route {
	return []control.Route{{Pattern: "GET /v1/doctor", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		control.WriteJSON(w, Examine(cfg, judge.Checks(source.Status())))
	})}}
}

// checks converts what a survey has found.
func checks(survey []hostnet.Subject) (out []doctor.Check) {
	for _, s := range survey {
		if len(s.Findings) == 0 {
			out = append(out, doctor.Check{Area: "host", Name: s.Name, Level: doctor.OK, What: "as it should be"})
		}
		for _, f := range s.Findings {
			level := doctor.Warning
			if f.Level == hostnet.Fatal {
				level = doctor.Failure
			}
			out = append(out, doctor.Check{Area: "host", Name: s.Name, Level: level, What: f.What, Do: f.Mend})
		}
	}
	return out
}

// CheckClock asks the kernel whether its clock is synchronized. The command does so, not the
// gateway: the unit's filter of system calls has no adjtimex(2), which can also set the clock.
func CheckClock() doctor.Check {
	c := doctor.Check{Area: "host", Name: "clock", Level: doctor.OK, What: "synchronized"}
	if state, err := unix.Adjtimex(&unix.Timex{}); err != nil {
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("cannot read its state: %v", err), "run gw as root"
	} else if state == unix.TIME_ERROR {
		c.Level, c.What, c.Do = doctor.Warning, "not synchronized: after a step back, peers refuse new WireGuard handshakes", "timedatectl set-ntp true"
	}
	return c
}

// diskCheck checks the state directory or, if it is missing, the directory in which it would be
// made.
func diskCheck(dir string) doctor.Check {
	c := doctor.Check{Area: "disk", Name: dir, Level: doctor.OK}
	at := dir
	for at != "/" && at != "." {
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
			break
		}
		at = filepath.Dir(at)
	}
	var fs unix.Statfs_t
	if err := unix.Access(at, unix.W_OK); err != nil {
		c.Level, c.What, c.Do = doctor.Failure, fmt.Sprintf("%s is not writable: %v", at, err), "run gw as root, and see whether the file system is read-only: findmnt -T "+at
		return c
	}
	if err := unix.Statfs(at, &fs); err != nil {
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("cannot read its free space: %v", err), "df "+at
		return c
	}
	free := fs.Bavail * uint64(fs.Bsize)
	c.What = fmt.Sprintf("writable, %d MiB free", free>>20)
	switch {
	case free < noBytes:
		c.Level, c.What, c.Do = doctor.Failure, fmt.Sprintf("%d MiB free: flow records cannot be stored", free>>20), "make room: df -h "+at
	case free < fewBytes:
		c.Level, c.What, c.Do = doctor.Warning, fmt.Sprintf("%d MiB free", free>>20), "make room: df -h "+at
	}
	return c
}
