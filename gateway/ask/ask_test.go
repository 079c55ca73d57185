package ask

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/streams"
)

// serve answers on a TCP port of this machine until the test ends.
func serve(t *testing.T, known bool, answer func(ctx context.Context, site, kind string, body []byte) ([]byte, error)) (dial func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Site:   func(netip.Addr) (string, bool) { return "gray", known },
		Answer: answer, Quota: NewQuota(), Logger: hclog.NewNullLogger(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestWireFormat: the bytes of a conversation stay as they are.
func TestWireFormat(t *testing.T) {
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"question", "gwqu\x00\x01\x05\x00\x00\x00\x03tracexyz", appendQuestion(nil, "trace", []byte("xyz"))},
		{"answer", "gwan\x00\x01\x00\x00\x00\x01\x00" + strings.Repeat("a", 256), appendAnswer(nil, statusFine, bytes.Repeat([]byte("a"), 256))},
		{"refusal", "gwan\x00\x01\x01\x00\x00\x00\x02no", appendAnswer(nil, statusRefused, []byte("no"))},
		{"answer to another version", "gwan\x00\x01\x02\x00\x00\x00\x00", appendAnswer(nil, statusVersion, nil)},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestAsk(t *testing.T) {
	dial := serve(t, true, func(_ context.Context, site, kind string, body []byte) ([]byte, error) {
		switch kind {
		case "echo":
			return append([]byte(site+" "), body...), nil
		case "long":
			return make([]byte, MaxBody+1), nil
		}
		return nil, errors.New("no answer to " + kind)
	})
	if got, err := Ask(t.Context(), dial(), "echo", []byte("hello")); err != nil || string(got) != "gray hello" {
		t.Errorf("%q, %v", got, err)
	}
	big := bytes.Repeat([]byte{'x'}, MaxBody-5)
	if got, err := Ask(t.Context(), dial(), "echo", big); err != nil || len(got) != MaxBody {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	var refused *RefusedError
	if _, err := Ask(t.Context(), dial(), "other", nil); !errors.As(err, &refused) || refused.Why != "no answer to other" {
		t.Errorf("got %v", err)
	}
	if _, err := Ask(t.Context(), dial(), "long", nil); !errors.As(err, &refused) {
		t.Errorf("too long an answer: %v", err)
	}
	if _, err := Ask(t.Context(), dial(), "echo", make([]byte, MaxBody+1)); !errors.Is(err, streams.ErrTooLong) {
		t.Errorf("too long a question: %v", err)
	}
}

func TestStrangers(t *testing.T) {
	dial := serve(t, false, nil)
	if _, err := Ask(t.Context(), dial(), "echo", nil); err == nil {
		t.Error("a stranger is answered")
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	entered := make(chan struct{})
	dial := serve(t, true, func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := Ask(ctx, dial(), "wait", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// twoSites answers gray on 127.0.0.1 and blue on 127.0.0.2.
func twoSites(t *testing.T, q *quota.Limiter, answer func(ctx context.Context, site, kind string, body []byte) ([]byte, error)) (s *Server, dial func(from string) net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &Server{
		Site: func(a netip.Addr) (string, bool) {
			return map[byte]string{1: "gray", 2: "blue"}[a.As4()[3]], true
		},
		Answer: answer, Quota: q, Logger: hclog.NewNullLogger(),
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// TestNoSiteKeepsAnotherFromAsking: connections of gray that send nothing, and answers that take
// long, hold gray's places only.
func TestNoSiteKeepsAnotherFromAsking(t *testing.T) {
	entered := make(chan struct{}, atOnce)
	s, dial := twoSites(t, NewQuota(), func(ctx context.Context, site, _ string, _ []byte) ([]byte, error) {
		if site == "gray" {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []byte("fine"), nil
	})
	for range atOnce - 1 {
		c := dial("127.0.0.1")
		if _, err := c.Write(appendHead(nil, question, 0, 0)); err != nil {
			t.Fatal(err)
		}
		<-entered
	}
	dial("127.0.0.1") // sends nothing
	if _, err := Ask(t.Context(), dial("127.0.0.1"), "one more", nil); err == nil {
		t.Error("gray has more answers at a time than a site may")
	}
	if got, err := Ask(t.Context(), dial("127.0.0.2"), "", nil); err != nil || string(got) != "fine" {
		t.Errorf("blue receives %q, %v", got, err)
	}
	if st := s.Quota.Stats("gray"); st.Busy != 1 {
		t.Errorf("%+v", st)
	}
}

// TestASiteMayNotAskTooOften: beyond its burst a site is refused, in words, at no cost.
func TestASiteMayNotAskTooOften(t *testing.T) {
	var answered atomic.Int64
	now := time.Unix(1000, 0)
	q := quota.New(quota.Config{AtOnce: atOnce, Burst: burst, Every: burstEvery, Now: func() time.Time { return now }})
	_, dial := twoSites(t, q, func(_ context.Context, site, _ string, _ []byte) ([]byte, error) {
		if site == "gray" {
			answered.Add(1)
		}
		return nil, nil
	})
	refused := 0
	for range burst + 5 {
		var why *RefusedError
		_, err := Ask(t.Context(), dial("127.0.0.1"), "", nil)
		switch {
		case errors.As(err, &why) && why.Why == errFrequent.Error():
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if n := answered.Load(); n != burst || refused != 5 {
		t.Errorf("%d answered, %d refused", n, refused)
	}
	if _, err := Ask(t.Context(), dial("127.0.0.2"), "", nil); err != nil {
		t.Errorf("blue: %v", err)
	}
}

// TestVersions: each side reports to the other which version it does not speak.
func TestVersions(t *testing.T) {
	dial := serve(t, true, nil)
	c := dial()
	defer c.Close()
	if _, err := io.WriteString(c, "gwqu\x00\x02\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	st, _, err := readHead(c, answer)
	if err != nil || status(st) != statusVersion {
		t.Errorf("a question of version 2: status %d, %v", st, err)
	}
	if _, _, err := readHead(strings.NewReader("gwan\x00\x02\x00\x00\x00\x00\x00"), answer); !errors.Is(err, streams.ErrVersion) {
		t.Errorf("an answer of version 2: %v", err)
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add(appendQuestion(nil, "trace", []byte("xyz")))
	f.Add([]byte("gwqu\x00\x01\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readQuestion(bytes.NewReader(b))
		if err != nil {
			return
		}
		again := appendQuestion(nil, kind, body)
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%q is read as %q, %q", b, kind, body)
		}
	})
}
