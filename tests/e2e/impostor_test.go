package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/lab"
)

// helloFrom is the hello of a process that calls itself boot.
func helloFrom(boot uint64) []byte {
	core := binary.BigEndian.AppendUint64(nil, boot)
	core = binary.BigEndian.AppendUint32(core, 1) // the first
	core = binary.BigEndian.AppendUint64(core, 1)
	core = binary.BigEndian.AppendUint64(core, uint64(time.Now().UnixNano()))
	core = append(core, 0)
	core = binary.BigEndian.AppendUint32(core, 1000)
	core = binary.BigEndian.AppendUint32(core, 5000)
	core = binary.BigEndian.AppendUint32(core, 3)
	core = binary.BigEndian.AppendUint16(core, 1280)
	b := append([]byte("gwh"), 1, 1, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(3+len(core)))
	b = append(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(core)))
	return append(b, core...)
}

// otherVersion is a hello of a version that no gateway speaks.
func otherVersion() []byte {
	b := helloFrom(1)
	b[3] = 9
	return b
}

// asUser sends datagrams from the node's own address as a user without privileges does.
const asUser = `
import socket, sys
src, dst, check = sys.argv[1:4]
s = socket.socket(socket.AF_INET6 if ":" in src else socket.AF_INET, socket.SOCK_DGRAM)
if check == "none":
    s.setsockopt(socket.SOL_SOCKET, 11, 1) # SO_NO_CHECK
s.bind((src, 0))
for line in sys.argv[4:]:
    port, payload = line.split(",")
    s.sendto(bytes.fromhex(payload), (dst, int(port)))
`

// TestHostsCannotSpeakAsTheNode: hosts of the LAN and users of the gateway send what only gateways
// send to each other, from the node's own address, and policy allows everything. Each packet is
// dropped for that reason where it enters, and the other gateway notices nothing.
func TestHostsCannotSpeakAsTheNode(t *testing.T) {
	n := newNetwork(t, setup{})
	for _, nd := range []*node{n.red, n.gray} {
		// The rules name the nodes' own addresses, too.
		nd.edit(`["red"]`, list(n.Red.Subnets))
		nd.edit(`["gray"]`, list(n.Gray.Subnets))
	}
	n.start()
	for _, c := range []struct {
		from, to   *node
		host       *lab.Host
		src4, dst4 netip.Addr
		src6, dst6 netip.Addr
	}{
		{n.red, n.gray, n.Red.DB(), n.Red.GW().Node4, n.Gray.GW().Node4, n.Red.GW().Node6, n.Gray.GW().Node6},
		{n.gray, n.red, n.Gray.DB(), n.Gray.GW().Node4, n.Red.GW().Node4, n.Gray.GW().Node6, n.Red.GW().Node6},
	} {
		before, dropped, arrived := c.to.link(), c.from.drops("impostor"), c.to.drops("impostor")
		sent := uint64(0)
		expect := func(what string, packets uint64) {
			t.Helper()
			sent += packets
			t.Logf("%s: %s sent %d packets", c.from.name, what, packets)
			c.from.waitDrops(dropped+sent, "impostor")
		}

		// A host of the LAN. Over IPv4 the gateway's kernel drops packets from its own address.
		for i := range uint64(20) {
			for _, b := range [][]byte{helloFrom(0xbeef0000 + i), otherVersion()} {
				if err := c.host.SendIP(lab.UDPPacket(netip.AddrPortFrom(c.src4, 5555), netip.AddrPortFrom(c.dst4, 9771), b)); err != nil {
					t.Fatal(err)
				}
				if err := c.host.SendIP(lab.UDPPacket(netip.AddrPortFrom(c.src6, 5555), netip.AddrPortFrom(c.dst6, 9771), b)); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect("a host of the LAN", 40)
		for port := uint16(9771); port <= 9775; port++ {
			if err := c.host.SendIP(lab.UDPPacket(netip.AddrPortFrom(c.src6, port), netip.AddrPortFrom(c.dst6, port), []byte("data"))); err != nil {
				t.Fatal(err)
			}
			if err := c.host.SendIP(tcp(netip.AddrPortFrom(c.src6, 40000), netip.AddrPortFrom(c.dst6, port), lab.SYN)); err != nil {
				t.Fatal(err)
			}
		}
		trunk := append(wire.AppendIP(nil, c.src6, c.dst6, wire.ProtoTrunk, 12), make([]byte, 12)...)
		if err := c.host.SendIP(trunk); err != nil {
			t.Fatal(err)
		}
		expect("a host of the LAN, on each port and the trunks' protocol", 11)

		// A user of the gateway, with and without checksums.
		for _, ends := range [][2]netip.Addr{{c.src4, c.dst4}, {c.src6, c.dst6}} {
			for _, check := range []string{"all", "none"} {
				args := []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all",
					"/usr/bin/python3", "-c", asUser, ends[0].String(), ends[1].String(), check}
				for i := range uint64(10) {
					args = append(args, fmt.Sprintf("9771,%x", helloFrom(0xdead0000+i)), fmt.Sprintf("9771,%x", otherVersion()), fmt.Sprintf("9772,%x", "claim"))
				}
				if out, err := c.from.host.Command(t.Context(), "setpriv", args...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				expect(fmt.Sprintf("a user, %v, checksums: %s", ends[0], check), 30)
			}
		}

		after := c.to.link()
		moved := after.Since.Sub(before.Since).Abs() > 100*time.Millisecond // status converts it from a monotonic clock
		if after.State != status.LinkUp || moved || len(after.Duplicates) > 0 || after.Refused != "" {
			t.Errorf("the link of %s was %s since %v, and is %s since %v; duplicates %v, refused %q", c.to.name, before.State, before.Since,
				after.State, after.Since, after.Duplicates, after.Refused)
		}
		if got := c.to.drops("impostor") - arrived; got > 0 {
			t.Errorf("%d packets of impostors reached %s", got, c.to.name)
		}
		for line := range strings.Lines(c.to.proc.Log.String()) {
			if strings.Contains(line, "restarted") || strings.Contains(line, "two processes") || strings.Contains(line, "version of the hello") {
				t.Errorf("%s logged: %s", c.to.name, line)
			}
		}
	}
	for _, w := range n.ways() {
		carriesBulk(t, w, 1<<20)
	}
}
