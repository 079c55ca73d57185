package gateway

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/netstack/wire"
)

// TestApply: a reloaded configuration changes the policy and the log's level.
func TestApply(t *testing.T) {
	cfg := partstest.Network()
	for i := range cfg.Sites {
		for k := range cfg.Sites[i].Nodes {
			cfg.Sites[i].Nodes[k].PublicKey[0] = byte(1 + 2*i + k)
		}
	}
	cfg.Local.PrivateKey[0] = 9
	j, err := parts.NewJudge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{cfg: cfg, log: hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: io.Discard})}
	g.table = flow.New(flow.Config{
		Self: cfg.Self.Site, Sites: parts.FlowSites(cfg), MTU: 1420, Judge: j, Now: func() time.Duration { return time.Minute },
	})
	g.path = flow.NewPath(g.table, hosttest.Silent{})
	if g.link, err = link.New(link.Config{
		PrivateKey: cfg.Local.PrivateKey, Self: link.Self{Site: "red", Node: "red-1", Addresses: cfg.SelfNode().Addresses},
		Peers: parts.LinkPeers(cfg), Path: g.path, TUNMTU: 1420, Logger: g.log,
	}); err != nil {
		t.Fatal(err)
	}
	allows := func() bool {
		_, reason := g.table.Allows(wire.ProtoTCP, netip.MustParseAddrPort("10.77.2.10:40000"), netip.MustParseAddrPort("10.77.1.10:5432"))
		return reason == wire.OK
	}
	if !allows() || g.log.IsDebug() {
		t.Fatal("the test begins with something else")
	}
	next := partstest.Network()
	next.Rules = nil
	next.Local.Log = configs.Log{Level: "debug"}
	if j, err = parts.NewJudge(next); err != nil {
		t.Fatal(err)
	}
	g.apply(next, j)
	if allows() || !g.log.IsDebug() {
		t.Errorf("policy applied: %v, log level applied: %v", !allows(), g.log.IsDebug())
	}
}
