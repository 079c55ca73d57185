package main

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/process"
)

// unitSetting returns the last value of a setting of gw.service.
func unitSetting(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../configs/gw.service")
	if err != nil {
		t.Fatal(err)
	}
	value, found := "", false
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			value, found = strings.TrimSpace(v), true
		}
	}
	if !found {
		t.Fatalf("gw.service does not set %s", name)
	}
	return value
}

// TestUnitHasRoomForTheDefaultLimits compares the unit's memory with what a gateway with the
// default limits may hold: at MemoryHigh the kernel would slow it down.
func TestUnitHasRoomForTheDefaultLimits(t *testing.T) {
	text, keys, err := configs.Starter(configs.StarterOptions{
		RedName: "red", GrayName: "gray", Endpoint: exampleEndpoint,
		RedSubnet: netip.MustParsePrefix("10.77.1.0/24"), GraySubnet: netip.MustParsePrefix("10.77.2.0/24"),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg, diags := configs.LoadFiles([]configs.File{{Name: "site.hcl", Text: text}}, configs.Options{Node: keys[0].Node})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	mib := func(name string) int64 {
		n, err := strconv.ParseInt(strings.TrimSuffix(unitSetting(t, name), "M"), 10, 64)
		if err != nil {
			t.Fatalf("%s is not in MiB: %v", name, err)
		}
		return n << 20
	}
	limit, high, most := memorySizes(cfg.Local).Limit(), mib("MemoryHigh"), mib("MemoryMax")
	if high/10*9 < limit {
		t.Errorf("nine tenths of MemoryHigh are %d MiB, and the default limits need %d MiB", high/10*9>>20, limit>>20)
	}
	if high > limit*3/2 {
		t.Errorf("MemoryHigh is %d MiB, far above the %d MiB that the default limits need", high>>20, limit>>20)
	}
	if most <= high {
		t.Errorf("MemoryMax of %d MiB is not above MemoryHigh of %d MiB", most>>20, high>>20)
	}
}

// TestMemoryLimitIsLogged: with limits that the machine can't have, the operator learns by how
// much.
func TestMemoryLimitIsLogged(t *testing.T) {
	for _, tt := range []struct {
		m    process.MemoryLimit
		want []string
		not  string
	}{
		{process.MemoryLimit{Bytes: 340 << 20, From: "local.limits"}, []string{"memory limit", "340 MiB, from local.limits"}, "WARN"},
		{process.MemoryLimit{Bytes: 230 << 20, From: "control group", Short: 110 << 20}, []string{"[WARN]", "control group", "missing_mib=110", "MemoryHigh"}, "machine"},
		{process.MemoryLimit{Bytes: 230 << 20, From: "machine", Short: 110 << 20}, []string{"[WARN]", "machine", "missing_mib=110"}, "MemoryHigh"},
	} {
		var out strings.Builder
		logMemory(hclog.New(&hclog.LoggerOptions{Output: &out}), tt.m)
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: no %q in %q", tt.m, want, out.String())
			}
		}
		if strings.Contains(out.String(), tt.not) {
			t.Errorf("%+v: %q in %q", tt.m, tt.not, out.String())
		}
	}
}
