package pair

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/ha"
)

// Another node's messages that are of no use cause a few lines, whatever their number.
func TestAnotherNodeCannotFloodTheLog(t *testing.T) {
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug})
	id := ha.NodeID{1}
	p := &Pair{log: log, quiet: quiet.New(quiet.Config{Logger: log}), names: map[ha.NodeID]string{id: "gray-1"}}
	for i := range 10000 {
		p.dropped(id, "election message dropped", errors.New("malformed"))
		p.dropped(id, "election message dropped", fmt.Errorf("message %d: %w", i, ha.ErrVersion))
		p.report(&ha.Event{Kind: ha.EventRefused, Node: id, Site: "gray", Count: uint64(i)})
	}
	if n := strings.Count(out.String(), "\n"); n != 3*quiet.DefaultBurst {
		t.Errorf("30000 messages cause %d lines, want %d", n, 3*quiet.DefaultBurst)
	}
}
