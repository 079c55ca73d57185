package flow

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

// TestLocalHosts: the hosts of this site that have flows, on the active node and on its standby.
func TestLocalHosts(t *testing.T) {
	active := newGW(t, allow)
	if got := active.table.LocalHosts(); len(got) != 0 {
		t.Error("hosts without flows:", got)
	}
	active.handshake(newTalk(redDB, grayDB))
	want := []netip.Addr{redDB.Addr()}
	if got := active.table.LocalHosts(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	standby := newGW(t, allow)
	standby.table.SetStandby(true)
	for k, v := range active.table.Records("") {
		standby.replace(bytes.Clone(k), bytes.Clone(v))
	}
	if got := standby.table.LocalHosts(); !slices.Equal(got, want) {
		t.Errorf("got %v on the standby, want %v", got, want)
	}
}
