package vitals

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
)

// machine is a host and a data path of which a test decides what works.
type machine struct {
	lan, device, stuck bool
	refusals           flow.Refusals
}

func (m *machine) Healthy() (lan, device bool) { return m.lan, m.device }
func (m *machine) Stuck() bool                 { return m.stuck }
func (m *machine) Refusals() flow.Refusals     { return m.refusals }

// TestFindings: each thing that fails has its own fault, and disables what it should.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name       string
		m          machine
		want       []health.Fault
		lan, plane bool
	}{
		{"all is well", machine{lan: true, device: true}, nil, true, true},
		{"LAN down", machine{device: true}, []health.Fault{health.LANDown}, false, true},
		{"device down", machine{lan: true}, []health.Fault{health.DeviceDown}, true, false},
		{"stuck", machine{lan: true, device: true, stuck: true}, []health.Fault{health.Stuck}, true, false},
		{
			"device refuses", machine{lan: true, device: true, refusals: flow.Refusals{Singles: true, Err: errors.New("EIO")}},
			[]health.Fault{health.DeviceRefuses}, true, false,
		},
		{
			"segments refused", machine{lan: true, device: true, refusals: flow.Refusals{Segments: true, Err: errors.New("EINVAL")}},
			[]health.Fault{health.SegmentsRefused}, true, true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := New(Config{
				Network: partstest.Network(), Host: &c.m, Path: &c.m,
				Hosts: func() []netip.Addr { return nil }, Logger: hclog.NewNullLogger(),
			})
			v.Look()
			var got []health.Fault
			for _, f := range v.Faults() {
				if f.Stands {
					got = append(got, health.Fault(f.Fault))
					if f.What == "" || f.Do == "" || f.Since.IsZero() || f.Raised != 1 {
						t.Errorf("%+v", f)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("faults %v, want %v", got, c.want)
			}
			if lan, plane := v.Works(); lan != c.lan || plane != c.plane {
				t.Errorf("lan %v, plane %v", lan, plane)
			}
			s := status.Status{Faults: v.Faults()}
			if fit := s.Fitness().Fit; fit != (c.lan && c.plane) {
				t.Errorf("fit: %v", fit)
			}
		})
	}
}
