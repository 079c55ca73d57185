package ask

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/streams/streamstest"
)

// FuzzServer: a hostile node of one site begins conversations with a running server and reads as
// much of the answers as it likes. Only whole questions within the limits are answered, no more of
// them than the site may ask, and in the end an honest node of another site is answered.
func FuzzServer(f *testing.F) {
	whole := appendQuestion(nil, "trace", []byte("xyz"))
	f.Add(append([]byte{byte(len(whole)), 255}, whole...))
	f.Add(append([]byte{4, 0}, whole...))
	f.Add([]byte("\x0b\x01gwqu\x00\x01\xff\xff\xff\xff\xff\x0b\x20gwqu\x00\x01\x00\x00\x03\xff\xff"))
	f.Add([]byte("\x0b\xffgwqu\x00\x02\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		honest := netip.AddrFrom4([4]byte{10, 0, 0, 9})
		s := &Server{
			Site: func(a netip.Addr) (string, bool) {
				if a == honest {
					return "blue", true
				}
				return "gray", true
			},
			Answer: func(_ context.Context, _, kind string, body []byte) ([]byte, error) {
				if len(kind) > MaxKind || len(body) > MaxBody {
					t.Errorf("a kind of %d bytes, a body of %d", len(kind), len(body))
				}
				return body, nil
			},
			Quota: NewQuota(), Logger: hclog.NewNullLogger(),
		}
		l := make(streamstest.Listener)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, l) }()
		for try := 0; try < 8 && len(script) > 2; try++ {
			here := l.Dial(netip.AddrFrom4([4]byte{10, 0, 0, 1}))
			size, take := int(script[0]), int64(script[1])
			part := script[2:min(len(script), 2+size)]
			script = script[2+len(part):]
			go func() {
				defer here.Close()
				if _, err := here.Write(part); err == nil {
					_, _ = io.CopyN(io.Discard, here, take)
				}
			}()
		}
		if got, err := Ask(t.Context(), l.Dial(honest), "trace", []byte("x")); err != nil || !bytes.Equal(got, []byte("x")) {
			t.Errorf("the honest node receives %q, %v", got, err)
		}
		cancel()
		close(l)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := s.Quota.Stats("gray"); st.Answered > burst {
			t.Errorf("%+v", st)
		}
	})
}
