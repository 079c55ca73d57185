package bind

import (
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/blake2s"
)

// The messages of the WireGuard protocol (WireGuard: Next Generation Kernel
// Network Tunnel, section 5.4). All integers are little-endian.
const (
	typeInitiation = 1 // type u32, sender u32, …, mac1 [16], mac2 [16]
	typeResponse   = 2 // type u32, sender u32, receiver u32, …
	typeCookie     = 3 // type u32, receiver u32, …
	typeTransport  = 4 // type u32, receiver u32, counter u64, …

	sizeInitiation = 148
	sizeResponse   = 92
	sizeCookie     = 64
	// sizeKeepalive is a transport message around an empty packet; anything
	// longer carries a packet.
	sizeKeepalive = 32

	mac1Size = blake2s.Size128
)

func messageType(m []byte) uint32 { return binary.LittleEndian.Uint32(m) }

// senderIndex is the index that the message's author chose for the session,
// in initiations and responses.
func senderIndex(m []byte) uint32 { return binary.LittleEndian.Uint32(m[4:]) }

// receiverIndex is the index, of a transport message or a cookie reply, that
// the receiver has chosen earlier.
func receiverIndex(m []byte) uint32 { return binary.LittleEndian.Uint32(m[4:]) }

// answeredIndex is the sender index of the initiation that a response answers.
func answeredIndex(response []byte) uint32 { return binary.LittleEndian.Uint32(response[8:]) }

// carriesPacket reports whether the message is a transport message with a
// packet in it: what the gates count.
func carriesPacket(m []byte) bool {
	return len(m) > sizeKeepalive && messageType(m) == typeTransport
}

// mac1Offset is where mac1 stands in an initiation or a response: before mac2, at the end.
// It is keyed by the public key of the message's receiver.
func mac1Offset(m []byte) int { return len(m) - 2*mac1Size }

// mac1Key returns the key of mac1 in messages to the holder of a public key.
func mac1Key(publicKey [32]byte) [blake2s.Size]byte {
	const label = "mac1----"
	return blake2s.Sum256(append([]byte(label), publicKey[:]...))
}

// macChecker verifies mac1 in messages to the holder of one public key. It allocates
// nothing after it was made. Not safe for concurrent use.
type macChecker struct {
	h   hash.Hash
	sum [mac1Size]byte
}

func newMACChecker(publicKey [32]byte) macChecker {
	key := mac1Key(publicKey)
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(err) // the key's length is a constant
	}
	return macChecker{h: h}
}

// check reports whether an initiation or a response is meant for the holder of the key.
func (c *macChecker) check(m []byte) bool {
	at := mac1Offset(m)
	c.h.Reset()
	c.h.Write(m[:at])
	c.h.Sum(c.sum[:0])
	return c.sum == [mac1Size]byte(m[at:])
}
