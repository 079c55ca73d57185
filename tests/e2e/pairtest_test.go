package e2e

import (
	"encoding/json"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// proven waits until `gw ha test` reports on both nodes of a site that a takeover
// would lose nothing.
func (n *pairNetwork) proven(t *testing.T, site []*node) {
	t.Helper()
	for _, nd := range site {
		var last status.HATest
		err := lab.Until(t.Context(), "", func() (bool, error) {
			// A failed test exits with an error too, and still prints its answer.
			out, err := nd.host.Command(t.Context(), nd.bin, "ha", "test", "--json", "--socket", nd.socket).Output()
			if jerr := json.Unmarshal(out, &last); jerr != nil {
				return false, jerr
			}
			if last.OK != (err == nil) {
				t.Errorf("gw ha test on %s reports ok %v and exits with %v", nd.name, last.OK, err)
			}
			return last.OK, nil
		})
		if err != nil {
			t.Fatalf("%s: the records of the standby are not proven: %v, %+v", nd.name, err, last)
		}
		if last.DigestEqual == nil || !*last.DigestEqual || last.Node == "" || len(last.Problems) != 0 {
			t.Errorf("gw ha test on %s: %+v", nd.name, last)
		}
	}
}

// linksUp reports whether the node has a link to a site, and all that it has to it
// are up.
func linksUp(s status.Status, site string) bool {
	n := 0
	for _, l := range s.Links {
		if l.Site != site {
			continue
		}
		if n++; l.State != status.LinkUp {
			return false
		}
	}
	return n > 0
}
