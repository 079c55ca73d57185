package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrameHeader(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Frame
		want string
	}{
		{"open", Frame{Kind: FrameOpen}, "01010000 00000000 00000000 00000000 00000000"},
		{"data", Frame{Kind: FrameData, Seq: 0x01020304, Ack: 0xfffffffe, Edge: 3, Payload: make([]byte, 0x1234)},
			"01040000 00001234 01020304 fffffffe 00000003"},
		{"longest", Frame{Kind: FrameData, Payload: make([]byte, MaxFramePayload)}, "01040000 00040000 00000000 00000000 00000000"},
		{"fin", Frame{Kind: FrameClose, Fin: true, Seq: 7}, "01050100 00000000 00000007 00000000 00000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := AppendFrameHeader([]byte("before"), &c.f, len(c.f.Payload))
			want := append([]byte("before"), unhex(c.want)...)
			if !bytes.Equal(b, want) {
				t.Fatalf("header % x, want % x", b, want)
			}
			got := Frame{Payload: []byte("stale")}
			n, err := ParseFrameHeader(b[len("before"):], &got)
			if err != nil || n != len(c.f.Payload) {
				t.Fatalf("parse: %d, %v", n, err)
			}
			c.f.Payload = nil
			if d := cmp.Diff(c.f, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestFrameHeaderRefused(t *testing.T) {
	for _, c := range []struct {
		name, b string
		want    error
	}{
		{"empty", "", ErrFrame},
		{"cut off", "01040000 00000000 00000000 00000000 000000", ErrFrame},
		{"version 0", "00040000 00000000 00000000 00000000 00000000", ErrFrameVersion},
		{"version 2", "02040000 00000000 00000000 00000000 00000000", ErrFrameVersion},
		{"kind 0", "01000000 00000000 00000000 00000000 00000000", ErrFrame},
		{"kind 6", "01060000 00000000 00000000 00000000 00000000", ErrFrame},
		{"flag", "01040200 00000000 00000000 00000000 00000000", ErrFrame},
		{"not zero", "01040001 00000000 00000000 00000000 00000000", ErrFrame},
		{"too long", "01040000 00040001 00000000 00000000 00000000", ErrFrame},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := Frame{Kind: FrameAccept, Seq: 9}
			f := was
			if n, err := ParseFrameHeader(unhex(c.b), &f); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("parse: %d, %v, want %v", n, err, c.want)
			}
			if d := cmp.Diff(was, f); d != "" {
				t.Errorf("a refused header changed the frame: %s", d)
			}
		})
	}
}

func TestFrameKindString(t *testing.T) {
	for k, want := range map[FrameKind]string{
		0: "unknown", FrameOpen: "open", FrameAccept: "accept", FrameRefuse: "refuse",
		FrameData: "data", FrameClose: "close", FrameClose + 1: "unknown",
	} {
		if got := k.String(); got != want {
			t.Errorf("kind %d is %q, want %q", k, got, want)
		}
	}
}

// FuzzFrameHeader holds parser and writer to each other: what parses is what
// would have been written, and what was not written so is refused.
func FuzzFrameHeader(f *testing.F) {
	f.Add([]byte{})
	f.Add(unhex("01040000 00001234 01020304 fffffffe 00000003"))
	f.Add(unhex("01050100 00040000 00000007 00000000 00000000"))
	f.Add(unhex("01050300 00040001 00000007 00000000 00000000"))
	payload := make([]byte, MaxFramePayload)
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Frame
		n, err := ParseFrameHeader(b, &got)
		sound := len(b) >= FrameHeaderSize && b[0] == 1 && b[1] >= 1 && b[1] <= 5 && b[2] <= 1 && b[3] == 0 &&
			uint64(b[4])<<24|uint64(b[5])<<16|uint64(b[6])<<8|uint64(b[7]) <= MaxFramePayload
		if sound != (err == nil) {
			t.Fatalf("% x: %v", b, err)
		}
		if err != nil {
			if !errors.Is(err, ErrFrame) && !errors.Is(err, ErrFrameVersion) {
				t.Fatalf("not one of the errors promised: %v", err)
			}
			return
		}
		got.Payload = payload[:n]
		if again := AppendFrameHeader(nil, &got, n); !bytes.Equal(again, b[:FrameHeaderSize]) {
			t.Fatalf("% x was read as %+v, which is % x", b[:FrameHeaderSize], got, again)
		}
	})
}

func BenchmarkFrameHeader(b *testing.B) {
	f := Frame{Kind: FrameData, Seq: 1, Ack: 2, Edge: 3, Payload: make([]byte, 1000)}
	buf := make([]byte, 0, FrameHeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		var got Frame
		if _, err := ParseFrameHeader(AppendFrameHeader(buf, &f, len(f.Payload)), &got); err != nil {
			b.Fatal(err)
		}
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		panic(err)
	}
	return b
}
