package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/deb"
)

const guide = "../../docs/operations.md"

// TestGuideFitsTheCommandLine parses each command of the operations guide, which
// `make deb-test` runs.
func TestGuideFitsTheCommandLine(t *testing.T) {
	blocks, err := deb.Guide(guide)
	if err != nil {
		t.Fatal(err)
	}
	// A command ends where the shell goes on.
	command := regexp.MustCompile(`(?m)(?:^|[\s;|&('])gw ([^|;&<>()'"\n]+)`)
	found := 0
	for _, b := range blocks {
		if b.Lang != "sh" {
			continue
		}
		for _, m := range command.FindAllStringSubmatch(b.Text, -1) {
			if strings.HasPrefix(m[1], "-") || isUnit(b.Text, m[0]) {
				continue
			}
			found++
			p := kong.Must(&cli{}, kong.Name("gw"), kong.Vars{"example_endpoint": exampleEndpoint})
			if _, err := p.Parse(strings.Fields(m[1])); err != nil {
				t.Errorf("operations.md:%d: gw %s: %v", b.Line, m[1], err)
			}
		}
	}
	if found < 30 {
		t.Errorf("%d commands found", found)
	}
}

// isUnit tells whether gw is the name of the unit in what a text has before it.
func isUnit(text, match string) bool {
	before, _, _ := strings.Cut(text, match)
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return strings.HasPrefix(line, "systemctl") || strings.HasPrefix(line, "journalctl")
}

// TestGuideKnowsEveryDropReason: the guide says what to do about each that is counted.
func TestGuideKnowsEveryDropReason(t *testing.T) {
	b, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for r := wire.OK + 1; r < wire.NumReasons; r++ {
		all = append(all, r.String())
	}
	for r := range bind.NumReasons {
		all = append(all, r.String())
	}
	for r := range new(link.Stats).ControlDropsByName() {
		all = append(all, r)
	}
	for _, r := range all {
		if !strings.Contains(string(b), "`"+r+"`") {
			t.Errorf("operations.md doesn't say what %q means", r)
		}
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(r) {
			t.Errorf("the reason %q is not written as the others: words and hyphens", r)
		}
	}
}
