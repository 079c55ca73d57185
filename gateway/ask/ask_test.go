package ask

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
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
		Answer: answer, Logger: hclog.NewNullLogger(),
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

func TestAsk(t *testing.T) {
	dial := serve(t, true, func(_ context.Context, site, kind string, body []byte) ([]byte, error) {
		switch kind {
		case "echo":
			return append([]byte(site+" "), body...), nil
		case "long":
			return make([]byte, MaxBody+1), nil
		}
		return nil, errors.New("nobody here answers " + kind)
	})
	if got, err := Ask(t.Context(), dial(), "echo", []byte("hello")); err != nil || string(got) != "gray hello" {
		t.Errorf("%q, %v", got, err)
	}
	big := bytes.Repeat([]byte{'x'}, MaxBody-5)
	if got, err := Ask(t.Context(), dial(), "echo", big); err != nil || len(got) != MaxBody {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	var refused *RefusedError
	if _, err := Ask(t.Context(), dial(), "other", nil); !errors.As(err, &refused) || refused.Why != "nobody here answers other" {
		t.Errorf("got %v", err)
	}
	if _, err := Ask(t.Context(), dial(), "long", nil); !errors.As(err, &refused) {
		t.Errorf("too long an answer: %v", err)
	}
	if _, err := Ask(t.Context(), dial(), "echo", make([]byte, MaxBody+1)); !errors.Is(err, ErrProtocol) {
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

// TestVersions: either side tells the other which version it does not speak.
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
	if _, _, err := readHead(strings.NewReader("gwan\x00\x02\x00\x00\x00\x00\x00"), answer); !errors.Is(err, ErrVersion) {
		t.Errorf("an answer of version 2: %v", err)
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add(append(appendHead(nil, question, 5, 3), "tracexyz"...))
	f.Add([]byte("gwqu\x00\x01\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readQuestion(bytes.NewReader(b))
		if err != nil {
			return
		}
		again := append(append(appendHead(nil, question, byte(len(kind)), len(body)), kind...), body...)
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%q is read as %q, %q", b, kind, body)
		}
	})
}
