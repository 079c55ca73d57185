package link

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// WireGuard's cross-platform configuration protocol,
// https://www.wireguard.com/xplatform/.

// configText is the device's whole configuration but for endpoints, which the
// dialler sets.
func configText(c *Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%x\nlisten_port=%d\n", c.PrivateKey, c.ListenPort)
	for _, p := range c.Peers {
		fmt.Fprintf(&b, "public_key=%x\n", p.PublicKey)
		if p.dials() {
			b.WriteString(keepaliveText(p.Keepalive))
		}
		for _, a := range p.Addresses {
			fmt.Fprintf(&b, "allowed_ip=%s/%d\n", a, a.BitLen())
		}
		for _, s := range p.Subnets {
			fmt.Fprintf(&b, "allowed_ip=%s\n", s)
		}
	}
	return b.String()
}

// endpointText sets a peer's endpoint. update_only, so that a peer that is
// gone isn't made again without its addresses.
func endpointText(key [32]byte, to netip.AddrPort) string {
	return fmt.Sprintf("public_key=%x\nupdate_only=true\nendpoint=%s\n", key, to)
}

// wgPeer is what wireguard-go knows of a peer.
type wgPeer struct {
	endpoint  string
	handshake time.Time // zero before the first
	tx, rx    uint64
}

// parseGet reads what the device answers to "get".
func parseGet(s string) (port uint16, peers map[[32]byte]wgPeer) {
	peers = map[[32]byte]wgPeer{}
	var key [32]byte
	var cur wgPeer
	var sec, nsec int64
	flush := func() {
		if key == [32]byte{} {
			return
		}
		if sec != 0 || nsec != 0 {
			cur.handshake = time.Unix(sec, nsec)
		}
		peers[key] = cur
	}
	for line := range strings.Lines(s) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch k {
		case "listen_port":
			n, _ := strconv.ParseUint(v, 10, 16)
			port = uint16(n)
		case "public_key":
			flush()
			cur, sec, nsec = wgPeer{}, 0, 0
			raw, _ := hex.DecodeString(v)
			copy(key[:], raw)
		case "endpoint":
			cur.endpoint = v
		case "last_handshake_time_sec":
			sec, _ = strconv.ParseInt(v, 10, 64)
		case "last_handshake_time_nsec":
			nsec, _ = strconv.ParseInt(v, 10, 64)
		case "tx_bytes":
			cur.tx, _ = strconv.ParseUint(v, 10, 64)
		case "rx_bytes":
			cur.rx, _ = strconv.ParseUint(v, 10, 64)
		}
	}
	flush()
	return port, peers
}
