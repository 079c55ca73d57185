//go:build soak

package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// fill adds entries of the site's connections, as if each had carried data, until there are n.
func fill(t *testing.T, n uint64) {
	t.Helper()
	c, err := newChanger()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	u, err := ReadUsage()
	if err != nil {
		t.Fatal(err)
	}
	attr := func(kind int, b []byte, inside ...*nl.RtAttr) *nl.RtAttr {
		if b == nil {
			kind |= unix.NLA_F_NESTED
		}
		a := nl.NewRtAttr(kind, b)
		for _, i := range inside {
			a.AddChild(i)
		}
		return a
	}
	end := func(kind int, src, dst []byte, sport, dport []byte) *nl.RtAttr {
		return attr(kind, nil,
			attr(nl.CTA_TUPLE_IP, nil, attr(nl.CTA_IP_V4_SRC, src), attr(nl.CTA_IP_V4_DST, dst)),
			attr(nl.CTA_TUPLE_PROTO, nil, attr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP}), attr(nl.CTA_PROTO_SRC_PORT, sport), attr(nl.CTA_PROTO_DST_PORT, dport)))
	}
	const assured, confirmed, seenReply, established = 4, 8, 2, 3
	to, service := remote.Addr().AsSlice(), []byte{0x15, 0x38}
	for i := u.Entries; i < n; i++ {
		from, port := []byte{10, 77, 1, byte(100 + i>>16)}, binary.BigEndian.AppendUint16(nil, uint16(i))
		req := nl.NewNetlinkRequest(message(nl.IPCTNL_MSG_CT_NEW), unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		req.Sockets = c
		req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		req.AddData(end(nl.CTA_TUPLE_ORIG, from, to, port, service))
		req.AddData(end(nl.CTA_TUPLE_REPLY, to, from, service, port))
		req.AddData(attr(nl.CTA_TIMEOUT, []byte{0, 0, 14, 16}))
		req.AddData(attr(nl.CTA_STATUS, []byte{0, 0, 0, assured | confirmed | seenReply}))
		req.AddData(attr(nl.CTA_PROTOINFO, nil, attr(nl.CTA_PROTOINFO_TCP, nil, attr(nl.CTA_PROTOINFO_TCP_STATE, []byte{established}))))
		if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

// TestFullTable: a table that is full of connections in use drops new ones, which the Watch
// reports. The sweep of so many entries is measured.
func TestFullTable(t *testing.T) {
	r := newRouter(t)
	r.load(stock["invalid dropped"])
	r.opened()
	var w Watch
	start := time.Now()
	u, dropping := w.Look(start)
	if dropping || u.Full() {
		t.Fatalf("before: %+v, %v", u, dropping)
	}
	fill(t, u.Limit)
	t.Logf("filled after %v", time.Since(start))
	if u, _ = w.Look(start.Add(time.Second)); !u.Full() || u.Drops != 0 {
		t.Fatalf("full: %+v", u)
	}
	for port := range uint16(20) {
		syn := wiretest.TCP{Src: host, Dst: netip.AddrPortFrom(remote.Addr(), 1000+port), Flags: wiretest.SYN, Window: 1000}
		if _, err := r.lan.Write(syn.Packet()); err != nil {
			t.Fatal(err)
		}
	}
	if u, dropping = w.Look(start.Add(2 * time.Second)); !dropping || u.Drops == 0 {
		t.Errorf("new connections at a full table: %+v, %v", u, dropping)
	}
	k := keeper()
	began := time.Now()
	if err := k.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries relaxed in %v; %+v", k.Stats().Relaxed, time.Since(began), u)
	began = time.Now()
	if err := k.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a sweep with nothing to do took %v", time.Since(began))
}
