package attacker

import (
	"bytes"
	"math/rand/v2"
	"sync"
)

// protocol is what an inner packet belongs to.
type protocol int

const (
	protoHello protocol = iota
	protoElection
	protoStray
	protoTrunk
	protoStream
	protoTraffic // of the sites' hosts, whole IP packets
	protocols
)

var protocolNames = [protocols]string{"hello", "election", "stray", "trunk", "stream", "traffic"}

func (p protocol) String() string { return protocolNames[p] }

// samples is how many payloads of a protocol a corpus keeps.
const samples = 128

// corpus keeps the latest payloads of each protocol, those that the attacker sent and those that
// it received. It is safe for concurrent use.
type corpus struct {
	mu   sync.Mutex
	kept [protocols][samples][]byte
	next [protocols]int
}

func (c *corpus) add(p protocol, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept[p][c.next[p]%samples] = bytes.Clone(payload)
	c.next[p]++
}

// pick returns one of the payloads, which the caller must not change; nil if there is none.
func (c *corpus) pick(r *rand.Rand, p protocol) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(c.next[p], samples)
	if n == 0 {
		return nil
	}
	return c.kept[p][r.IntN(n)]
}
