package status

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type fixed struct{ s Status }

func (f fixed) Status() Status { return f.s }

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(fixed{sample()}))

	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				switch l.GetName() {
				case "peer", "site", "node", "version", "state", "direction", "proto", "reason", "cause", "kind", "fatal", "role", "planned", "result", "fault":
				default:
					t.Errorf("%s has the label %s: labels are names of the configuration or of the code", f.GetName(), l.GetName())
				}
			}
		}
	}

	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	golden(t, "metrics.txt", page.Body.Bytes())
}
