package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/tests/lab"
)

// audited has the node, which has not started, write an audit log, and returns where.
func (n *node) audited() string {
	n.t.Helper()
	path := filepath.Join(n.dir, "audit.log")
	n.edit(`log { level`, "audit { to = "+strconv.Quote(path)+" }\n  log { level")
	return path
}

// auditLines are the lines of audit logs, the older files first.
func auditLines(paths ...string) (lines []audit.Event, err error) {
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			e := audit.Event{Flow: &audit.Flow{End: &audit.End{}}}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", path, line, err)
			}
			lines = append(lines, e)
		}
	}
	return lines, nil
}

// auditText is what of lines is the same each time: event and reason of flows to a port, and all
// else with the named attributes.
func auditText(lines []audit.Event, port uint16, attrs ...string) (out []string) {
	for _, e := range lines {
		text := e.Kind
		if e.Destination.IsValid() {
			if e.Destination.Port() != port {
				continue
			}
			text += " " + e.Reason
		}
		for _, a := range attrs {
			if v := e.Attrs[a]; v != "" {
				text += " " + v
			}
		}
		out = append(out, strings.TrimSpace(text))
	}
	return out
}

// auditWhole waits until a node's audit log, which may be of several files, has all lines that the
// node has written and enough accepts them. No line is lost, and no flow ends twice, or
// without having opened.
func (n *node) auditWhole(t *testing.T, enough func([]audit.Event) bool, paths ...string) (lines []audit.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := lab.Until(ctx, "the audit log of "+n.name+" is whole", func() (bool, error) {
		s, err := n.status()
		if err != nil {
			return false, nil
		}
		if s.Audit == nil || s.Audit.Lost > 0 {
			return false, fmt.Errorf("%+v", s.Audit)
		}
		lines, err = auditLines(paths...)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return false, nil // it is being written
		}
		return uint64(len(lines)) == s.Audit.Written && enough(lines), err
	})
	if err != nil {
		b, _ := json.Marshal(lines)
		t.Fatalf("%v: %s", err, b)
	}
	open := map[string]int{}
	for _, e := range lines {
		id := fmt.Sprint(e.Proto, e.Source, e.Destination)
		switch e.Kind {
		case "flow_open":
			open[id]++
		case "flow_end":
			if open[id]--; open[id] < 0 || e.Duration < 0 || e.Reason == "" {
				t.Errorf("%s: an end without an opening: %s, %+v", n.name, id, e.End)
			}
		}
		if e.Node != n.name {
			t.Errorf("a line in the log of %s names node %q", n.name, e.Node)
		}
	}
	return lines
}
