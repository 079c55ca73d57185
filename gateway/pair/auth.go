package pair

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"

	"github.com/onewaylink/gw/ha"
)

// KeyLabel is the purpose of the siblings' common key, for its derivation.
const KeyLabel = "gw election: statements of siblings, version 1"

// authenticator makes tags with HMAC-SHA256, cut to 128 bits (RFC 2104, section 5).
type authenticator struct{ mac hash.Hash }

var _ ha.Authenticator = (*authenticator)(nil)

// NewAuthenticator returns an Authenticator with the siblings' common key. It is for
// one goroutine at a time.
func NewAuthenticator(key [32]byte) ha.Authenticator {
	return &authenticator{hmac.New(sha256.New, key[:])}
}

// Tag implements ha.Authenticator.
func (a *authenticator) Tag(statement []byte) ha.Tag {
	var sum [sha256.Size]byte
	a.mac.Reset()
	a.mac.Write(statement) // never fails
	return ha.Tag(a.mac.Sum(sum[:0])[:ha.TagSize])
}
