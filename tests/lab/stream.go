package lab

import "bytes"

// stream is what one end of a connection has sent, by position. Positions are
// sequence numbers that go on counting where those wrap.
type stream struct {
	start, top int64 // of the first byte, and behind the last
	chunks     map[int64][]byte
	oldest     int64 // the first chunk that may be held
	others     []other
	dropped    bool // what it held is forgotten
}

// other is what a sender has put at a position where it had sent something else
// before: a keepalive may carry a byte of garbage (RFC 9293 section 3.8.4).
type other struct {
	at    int64
	bytes []byte
}

const (
	streamChunk = 64 << 10
	// streamKeep is how much of a stream is held, in bytes. No window is larger, so
	// nothing older may arrive.
	streamKeep = 32 << 20
	// streamOthers is how many keepalives with garbage are remembered.
	streamOthers = 64
)

// write records what was sent at a position, for the first time or again.
func (s *stream) write(at int64, b []byte) {
	if len(b) == 0 {
		return // its position may be anywhere
	}
	if n := min(s.top-at, int64(len(b))); n > 0 {
		if s.diff(at, b[:n]) != same {
			if len(s.others) == streamOthers {
				s.others = s.others[1:]
			}
			s.others = append(s.others, other{at, bytes.Clone(b[:n])})
		}
		at, b = at+n, b[n:]
	}
	if s.chunks == nil {
		s.chunks, s.oldest = map[int64][]byte{}, s.start/streamChunk
	}
	for len(b) > 0 {
		i, from := at/streamChunk, int(at%streamChunk)
		c := s.chunks[i]
		if len(c) < from {
			// The stream begins here, or there is a gap that must not be read.
			c = append(c, make([]byte, from-len(c))...)
		}
		n := min(len(b), streamChunk-from)
		s.chunks[i] = append(c[:from], b[:n]...)
		at, b = at+int64(n), b[n:]
	}
	s.top = max(s.top, at)
	for ; s.oldest < (s.top-streamKeep)/streamChunk; s.oldest++ {
		delete(s.chunks, s.oldest)
	}
}

// drop forgets the bytes.
func (s *stream) drop() { s.chunks, s.others, s.dropped = nil, nil, true }

// comparison is how bytes compare with the stream's.
type comparison int

const (
	same comparison = iota
	different
	unsent    // there is nothing yet at this position
	forgotten // there was something, too long ago
)

// compare reports whether b has been sent at a position.
func (s *stream) compare(at int64, b []byte) comparison {
	d := s.diff(at, b)
	if d == different || d == unsent && at < s.start {
		for _, o := range s.others {
			if s.covers(o, at, b) {
				return same
			}
		}
	}
	return d
}

// covers reports whether b is the stream's with o in it.
func (s *stream) covers(o other, at int64, b []byte) bool {
	lo, hi := max(at, o.at), min(at+int64(len(b)), o.at+int64(len(o.bytes)))
	return lo < hi && bytes.Equal(b[lo-at:hi-at], o.bytes[lo-o.at:hi-o.at]) &&
		s.diff(at, b[:lo-at]) == same && s.diff(hi, b[hi-at:]) == same
}

// diff compares b with what was sent first at a position.
func (s *stream) diff(at int64, b []byte) comparison {
	if len(b) == 0 {
		return same
	}
	if at < s.start || at+int64(len(b)) > s.top {
		return unsent
	}
	for len(b) > 0 {
		c := s.chunks[at/streamChunk]
		if int64(len(c)) <= at%streamChunk {
			return forgotten
		}
		c = c[at%streamChunk:]
		n := min(len(b), len(c))
		if !bytes.Equal(b[:n], c[:n]) {
			return different
		}
		at, b = at+int64(n), b[n:]
	}
	return same
}
