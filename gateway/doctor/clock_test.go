package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// TestClockSetBack: where a clock that was set back keeps a link down, each side names the clock,
// and neither the firewall nor the keys.
func TestClockSetBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		link status.Link
		want string
	}{
		{"dialler", status.Link{Peer: "gray-1", State: status.LinkEstablishing, Initiator: true, Endpoint: "192.0.2.1:51820", TxBytes: 148, ClockBehind: status.Seconds(time.Hour)}, "1h0m0s behind"},
		{"responder", status.Link{Peer: "red-1", State: status.LinkLost, ReplaysRefused: 7, PeerClockSetBack: true}, "handshakes of red-1 are refused as replays"},
	} {
		found := false
		for _, c := range link(&tc.link, time.Now()) {
			found = found || c.Level == Failure && strings.Contains(c.What, tc.want) && strings.Contains(c.Do, "chronyc makestep")
			if strings.Contains(c.Do, "firewall") || strings.Contains(c.Do, "keys") {
				t.Errorf("%s: %+v", tc.name, c)
			}
		}
		if !found {
			t.Errorf("%s: no failure with %q", tc.name, tc.want)
		}
	}
}
