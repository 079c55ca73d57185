package lab

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const wgplainPackage = "github.com/onewaylink/gw/tests/lab/wgplain"

// Key is a WireGuard key: 32 bytes of Curve25519, private or public.
type Key [32]byte

// NewKey makes a private key.
func NewKey() Key {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("lab: no randomness: %v", err)) // crypto/rand doesn't fail
	}
	return Key(k.Bytes())
}

// Public is the public key that belongs to a private one.
func (k Key) Public() Key {
	p, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic(fmt.Sprintf("lab: a 32-byte key was refused: %v", err))
	}
	return Key(p.PublicKey().Bytes())
}

// String is the key in base64, as gw and wg(8) write it.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex is the key as WireGuard's UAPI writes it.
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// WGConfig sets what a plain wireguard-go process does.
type WGConfig struct {
	PrivateKey Key
	// ListenPort is a UDP port; 0 is any.
	ListenPort uint16
	// TUN is the device's name; wg0 if empty.
	TUN string
	// MTU is the device's, in bytes; 0 is wireguard-go's default, 1420.
	MTU int
	// Addresses are put on the device, and Routes lead to it.
	Addresses, Routes []netip.Prefix
	Peers             []WGPeer
	// Verbose logs every handshake.
	Verbose bool
	// Env is added to the process's environment, for example GOGC.
	Env []string
}

// WGPeer is the other end.
type WGPeer struct {
	PublicKey Key
	// Endpoint is where the peer listens; the zero value waits for the peer to dial.
	Endpoint   netip.AddrPort
	AllowedIPs []netip.Prefix
	// Keepalive is rounded down to seconds; 0 is none.
	Keepalive time.Duration
}

// uapi is the configuration in the form of WireGuard's cross-platform interface.
func (c WGConfig) uapi() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\n", c.PrivateKey.Hex(), c.ListenPort)
	for _, p := range c.Peers {
		fmt.Fprintf(&b, "public_key=%s\n", p.PublicKey.Hex())
		if p.Endpoint.IsValid() {
			fmt.Fprintf(&b, "endpoint=%s\n", p.Endpoint)
		}
		for _, a := range p.AllowedIPs {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a.Masked())
		}
		if p.Keepalive > 0 {
			fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", int(p.Keepalive.Seconds()))
		}
	}
	return b.String()
}

// StartWG starts a plain wireguard-go process in the namespace and returns once
// its device has its addresses and routes. No handshake has happened by then.
func StartWG(ctx context.Context, n *Namespace, c WGConfig) (*Proc, error) {
	program, err := Build(wgplainPackage)
	if err != nil {
		return nil, err
	}
	if c.TUN == "" {
		c.TUN = "wg0"
	}
	if c.MTU == 0 {
		c.MTU = 1420
	}
	args := []string{program, "-tun", c.TUN, "-mtu", fmt.Sprint(c.MTU)}
	if c.Verbose {
		args = append(args, "-verbose")
	}
	p, err := n.Start(ctx, Spec{Name: "wgplain-" + c.TUN, Args: args, Env: c.Env, Stdin: strings.NewReader(c.uapi())})
	if err != nil {
		return nil, err
	}
	err = p.Saw(ctx, "ready")
	if err == nil {
		err = errors.Join(n.configure(c.TUN, c.Addresses...), n.Sysctl("ipv4/conf/"+c.TUN+"/forwarding", "1"))
	}
	for _, r := range c.Routes {
		if err == nil {
			err = n.Route(r, netip.Addr{}, c.TUN)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plain wireguard-go: %w", err), p.Kill())
	}
	return p, nil
}

// PlainPort is where gray's wireguard-go listens in a plain tunnel.
const PlainPort = 51820

// StartPlainTunnel joins the sites by two plain wireguard-go processes on their
// first gateways; red dials. The databases then reach each other. It is what gw is
// measured against.
func StartPlainTunnel(ctx context.Context, l *Lab) (red, gray *Proc, err error) {
	redKey, grayKey := NewKey(), NewKey()
	nodes := func(h *Host) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(h.Node4, 32), netip.PrefixFrom(h.Node6, 128)}
	}
	gray, err = StartWG(ctx, l.Gray.GW().Namespace, WGConfig{
		PrivateKey: grayKey, ListenPort: PlainPort, Addresses: nodes(l.Gray.GW()), Routes: l.Red.Subnets,
		Peers: []WGPeer{{PublicKey: redKey.Public(), AllowedIPs: l.Red.Subnets}},
	})
	if err != nil {
		return nil, nil, err
	}
	red, err = StartWG(ctx, l.Red.GW().Namespace, WGConfig{
		PrivateKey: redKey, Addresses: nodes(l.Red.GW()), Routes: l.Gray.Subnets,
		Peers: []WGPeer{{
			PublicKey: grayKey.Public(), Endpoint: netip.AddrPortFrom(l.Gray.GW().WAN4, PlainPort),
			AllowedIPs: l.Gray.Subnets, Keepalive: 5 * time.Second,
		}},
	})
	if err != nil {
		return nil, nil, errors.Join(err, gray.Kill())
	}
	return red, gray, nil
}
