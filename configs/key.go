package configs

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// KeySize is the length of a Curve25519 key in bytes (RFC 7748, section 5).
const KeySize = 32

// Key is a WireGuard public key. Its text is the base64 that `wg pubkey` prints.
type Key [KeySize]byte

// ParseKey reads the base64 text of a public key.
func ParseKey(text string) (Key, error) {
	var k Key
	if err := decodeKey(k[:], text); err != nil {
		return Key{}, err
	}
	if k == (Key{}) {
		return Key{}, errors.New("the key is all zeros")
	}
	return k, nil
}

// String returns the base64 text.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText returns the base64 text.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// PrivateKey is a WireGuard private key. Printing it in any way shows
// "(private key)"; the text comes from Reveal alone.
type PrivateKey [KeySize]byte

// redacted is what every printer shows in place of a private key.
const redacted = "(private key)"

// GenerateKey draws a private key, clamped as in RFC 7748, section 5.
func GenerateKey() PrivateKey {
	var k PrivateKey
	rand.Read(k[:]) // crypto/rand.Read never fails: it ends the program instead
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// ParsePrivateKey reads the base64 text of a private key; white space around it
// is ignored. Errors don't quote the text.
func ParsePrivateKey(text string) (PrivateKey, error) {
	var k PrivateKey
	if err := decodeKey(k[:], strings.TrimSpace(text)); err != nil {
		return PrivateKey{}, err
	}
	if k == (PrivateKey{}) {
		return PrivateKey{}, errors.New("the key is all zeros")
	}
	return k, nil
}

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() Key {
	p, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("configs: X25519 refuses a key of 32 bytes: " + err.Error())
	}
	return Key(p.PublicKey().Bytes())
}

// Common derives the key that only k's node and the node with the public key peer can
// compute, for the purpose that label names: HKDF-SHA256 (RFC 5869) over the two keys'
// X25519 secret (RFC 7748), with both public keys as the salt. Both nodes get the same.
func (k PrivateKey) Common(peer Key, label string) ([32]byte, error) {
	own := k.Public()
	if own == peer {
		return [32]byte{}, errors.New("both nodes have the same key")
	}
	priv, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		return [32]byte{}, fmt.Errorf("use the private key: %w", err)
	}
	pub, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return [32]byte{}, fmt.Errorf("use the public key %v: %w", peer, err)
	}
	secret, err := priv.ECDH(pub)
	if err != nil { // a point of low order
		return [32]byte{}, fmt.Errorf("use the public key %v: %w", peer, err)
	}
	low, high := own, peer
	if bytes.Compare(low[:], high[:]) > 0 {
		low, high = high, low
	}
	key, err := hkdf.Key(sha256.New, secret, append(low[:], high[:]...), label, 32)
	if err != nil {
		panic("configs: HKDF refuses 32 bytes: " + err.Error())
	}
	return [32]byte(key), nil
}

// Reveal returns the base64 text, for writing a key file.
func (k PrivateKey) Reveal() string { return base64.StdEncoding.EncodeToString(k[:]) }

// String hides the key.
func (PrivateKey) String() string { return redacted }

// Format hides the key from every verb of fmt, %d and %#v included.
func (PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the key from encoders.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func decodeKey(dst []byte, text string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // the decoder passes over line ends
		return errors.New("not base64 (a key is 44 characters that end in \"=\")")
	}
	if len(b) != KeySize {
		return fmt.Errorf("%d bytes long instead of %d", len(b), KeySize)
	}
	copy(dst, b)
	return nil
}
