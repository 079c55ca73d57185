package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// Ping is what came of trying a way at one level: link, gateway or port.
type Ping struct {
	Level string `json:"level"`
	// Target is the node, or the address and port.
	Target   string `json:"target"`
	Sent     int    `json:"sent"`
	Received int    `json:"received"`
	// Min, Median and Max are round trips; zero when none was measured.
	Min    status.Seconds `json:"min_seconds,omitzero"`
	Median status.Seconds `json:"median_seconds,omitzero"`
	Max    status.Seconds `json:"max_seconds,omitzero"`
	OK     bool           `json:"ok"`
	// Means says in words what that is, and Do what to do when it is not well.
	Means string `json:"means"`
	Do    string `json:"do,omitempty"`
}

// Pings are the levels in the order from the outside in.
type Pings struct {
	Node  string `json:"node"`
	Pings []Ping `json:"pings"`
}

// Tried makes a Ping of round trips. failed is the last error, nil if there was none.
func Tried(level, target string, sent int, took []time.Duration, failed error) Ping {
	p := Ping{Level: level, Target: target, Sent: sent, Received: len(took), OK: failed == nil && len(took) == sent}
	if len(took) > 0 {
		slices.Sort(took)
		p.Min, p.Median, p.Max = status.Seconds(took[0]), status.Seconds(took[len(took)/2]), status.Seconds(took[len(took)-1])
	}
	var timeout net.Error
	switch level {
	case "gateway":
		p.Means, p.Do = "the other gateway answers inside the tunnel", ""
		switch {
		case errors.As(failed, &timeout) && timeout.Timeout():
			p.Means, p.Do = "the other gateway does not answer inside the tunnel in time", "see the link above, and whether gw runs there: gw status"
		case !p.OK:
			p.Means, p.Do = fmt.Sprintf("the other gateway does not answer inside the tunnel: %v", failed), "see the link above, and whether gw runs there: gw status"
		}
	case "port":
		p.Means, p.Do = portMeans(target, failed)
	}
	return p
}

// portMeans tells apart how a connect can end.
func portMeans(target string, err error) (means, do string) {
	var timeout net.Error
	switch {
	case err == nil:
		return "the database's port accepts", ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: the host answers, and no process listens on the port", "see that the database runs and listens on " + target + ", not only on localhost"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
		return "denied or unreachable: no rule of this node or of the other gateway allows it, or the far network has no such host",
			"see the rules, and the drops of gw status on both nodes: denied there is policy"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EINVAL):
		return "this host has no route there", "see gw doctor, and whether the address is in a subnet of a linked site"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "time-out: nothing answers",
			"see that the host is up, that its firewall lets the port in, and that its way back leads to its gateway: ip route get, there"
	}
	return err.Error(), "see gw doctor"
}

// OfLink makes a Ping of what hellos, which are said all the time, have measured.
func OfLink(l status.Link) Ping {
	p := Ping{Level: "link", Target: l.Peer, OK: l.State.Carries()}
	p.Median = l.RTT
	if p.OK {
		p.Means = fmt.Sprintf("%s; loss %.2g %% out, %.2g %% in", l.State, 100*l.LossOut, 100*l.LossIn)
		return p
	}
	for _, c := range link(&l, time.Time{}) {
		if c.Level == Failure {
			p.Means, p.Do = c.What, c.Do
			break
		}
	}
	return p
}
