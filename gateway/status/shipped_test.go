package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// exported is what a scrape has, by metric: its labels, with the values that the sample gives them.
type exported map[string]map[string][]string

func scrape(t *testing.T) exported {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(fixed{sample()}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := exported{"up": {}} // Prometheus's own
	for _, f := range families {
		labels := make(map[string][]string)
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
		}
		all[f.GetName()] = labels
	}
	return all
}

var (
	metricUse = regexp.MustCompile(`\b(gw_\w+|up\b)(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	template  = regexp.MustCompile(`\$labels\.(\w+)|\{\{(\w+)\}\}`)
)

// scrapeLabels are those that Prometheus adds.
var scrapeLabels = []string{"instance", "job"}

// check finds the metrics and labels in an expression, and in the texts that name labels of its
// result, that no scrape would have.
func (e exported) check(t *testing.T, expr string, texts ...string) (used int) {
	t.Helper()
	labels := slices.Clone(scrapeLabels)
	for _, use := range metricUse.FindAllStringSubmatch(expr, -1) {
		used++
		known, ok := e[use[1]]
		if !ok {
			t.Errorf("%s: no metric %s is exported", expr, use[1])
			continue
		}
		for name := range known {
			labels = append(labels, name)
		}
		for _, m := range matcher.FindAllStringSubmatch(use[2], -1) {
			values, ok := known[m[1]]
			switch {
			case slices.Contains(scrapeLabels, m[1]):
			case !ok:
				t.Errorf("%s: %s has no label %s", expr, use[1], m[1])
			case m[2] == "=" && !slices.Contains(values, m[3]):
				t.Errorf("%s: %s is never %q", expr, m[1], m[3])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(g[1], ",") {
			if name = strings.TrimSpace(name); !slices.Contains(labels, name) {
				t.Errorf("%s: groups by %s, which no metric in it has", expr, name)
			}
		}
	}
	// What an aggregation does not keep can't be told.
	if by := regexp.MustCompile(`\bby\s*\(([^)]*)\)`).FindStringSubmatch(expr); by != nil {
		labels = strings.FieldsFunc(by[1], func(r rune) bool { return r == ',' || r == ' ' })
	}
	for _, text := range texts {
		for _, m := range template.FindAllStringSubmatch(text, -1) {
			if name := m[1] + m[2]; !slices.Contains(labels, name) {
				t.Errorf("%s: %q tells the label %s, which the result has not", expr, text, name)
			}
		}
	}
	return used
}

func TestShippedAlerts(t *testing.T) {
	b := shipped(t, "alerts.yml")
	all := scrape(t)
	// The file is plain enough to be read by line: each rule begins with its name, and each value
	// is on one line.
	names := make(map[string]bool)
	for rule := range strings.SplitSeq(string(b), "      - alert: ") {
		name, body, _ := strings.Cut(rule, "\n")
		value := func(key string) string {
			m := regexp.MustCompile(`(?m)^ +` + key + `: (.+)$`).FindStringSubmatch(body)
			if m == nil {
				return ""
			}
			return m[1]
		}
		expr := value("expr")
		if expr == "" {
			continue // what stands before the first rule
		}
		if names[name] {
			t.Errorf("two rules are called %s", name)
		}
		names[name] = true
		if all.check(t, expr, value("summary"), value("action")) == 0 {
			t.Errorf("%s asks for no metric", name)
		}
		if value("summary") == "" || value("action") == "" || !strings.Contains(body, "severity: ") {
			t.Errorf("%s wants a severity, a summary, and an action for the person whom it wakes", name)
		}
	}
	if want := strings.Count(string(b), "- alert:"); len(names) != want || want < 10 {
		t.Errorf("read %d rules of %d", len(names), want)
	}
}

// TestPromtool has Prometheus itself read the rules and say what they fire on, and read the
// dashboard's expressions.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("find promtool: %v; run tests/deps.sh, which installs it", err)
	}
	rules := []byte("groups:\n- name: dashboard\n  rules:\n")
	for i, expr := range regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`).FindAllSubmatch(shipped(t, "grafana.json"), -1) {
		rules = fmt.Appendf(rules, "  - {record: panel%d, expr: %s}\n", i, bytes.ReplaceAll(expr[1], []byte("$__rate_interval"), []byte("5m")))
	}
	board := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(board, rules, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "rules", board}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "../../configs"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
		t.Logf("%s", out)
	}
}

func shipped(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../configs", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestShippedDashboard(t *testing.T) {
	b := shipped(t, "grafana.json")
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	all := scrape(t)
	ids := make(map[int]bool)
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %s is empty", p.Title)
		}
		for _, target := range p.Targets {
			if all.check(t, target.Expr, target.LegendFormat) == 0 {
				t.Errorf("the panel %s asks for no metric", p.Title)
			}
		}
	}
	if len(ids) < 10 {
		t.Errorf("%d panels", len(ids))
	}
}
