package hello

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

func samples() map[string]message {
	full := helloMsg{
		boot: 0x0102030405060708, seq: 7, nonce: uint64(90 * time.Second), wall: 1700000000000000000, answer: true,
		interval: time.Second, keepalive: 5 * time.Second, caps: PartialChecksums, mtu: 1420,
		echo:     &echoMsg{boot: 9, nonce: uint64(time.Second), hold: 3 * time.Millisecond},
		heard:    heardMsg{highest: 12, window: 60, count: 59},
		software: "v1.2.3", site: "red", node: "red-1",
		sections: []sectionMsg{
			{name: "site.red", digest: sectionDigest{1, 2, 3}, fatal: true},
			{name: "link.gray.red", digest: sectionDigest{4}},
		},
		duplicate: [2]string{"192.0.2.1:51820", "[2001:db8::1]:51820"},
	}
	return map[string]message{
		"hello":       {kind: kindHello, hello: full},
		"hello-first": {kind: kindHello, hello: helloMsg{boot: 1}},
		"probe":       {kind: kindProbe, probe: probeMsg{id: 5, size: 1420}},
		"ack":         {kind: kindAck, probe: probeMsg{id: 5, size: 1312}},
		"want":        {kind: kindWant, want: wantMsg{section: "site.red", offset: 300}},
		"attrs": {kind: kindAttrs, attrs: attrsMsg{section: "site.red", digest: sectionDigest{8}, offset: 2, total: 4, attrs: []Attr{
			{Name: "site.red.subnets", Digest: [8]byte{1}, Fatal: true}, {Name: `site.red.node "é"`, Digest: [8]byte{2}},
		}}},
	}
}

// TestWireFormat holds the bytes: nodes of different releases meet on them.
func TestWireFormat(t *testing.T) {
	for name, m := range samples() {
		got := appendMessage(nil, &m)
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: encoded\n%x, want\n%x", name, got, want)
		}
		back, err := decode(want)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: decoded %+v, %v, want %+v", name, back, err, m)
		}
	}
}

func TestLargestHelloFits(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	m := message{kind: kindHello, hello: helloMsg{boot: 1, echo: &echoMsg{}, software: long, site: long, node: long, duplicate: [2]string{long, long}}}
	for range 5 { // what two sites of a network share
		m.hello.sections = append(m.hello.sections, sectionMsg{name: long})
	}
	if n := len(appendMessage(nil, &m)); n > MaxPayload {
		t.Errorf("the largest hello has %d bytes, more than %d", n, MaxPayload)
	}
}

func TestDecode(t *testing.T) {
	hello := func(edit func(b []byte) []byte) []byte {
		m := samples()["hello"]
		return edit(appendMessage(nil, &m))
	}
	field := func(tag byte, v string) func(b []byte) []byte {
		return func(b []byte) []byte {
			b = appendField(b, tag, func(b []byte) []byte { return append(b, v...) })
			b[6], b[7] = byte((len(b)-headerLen)>>8), byte(len(b)-headerLen)
			return b
		}
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"empty", nil, ErrMalformed},
		{"other magic", []byte("xyz\x01\x01\x00\x00\x00"), ErrMalformed},
		{"no fields", []byte("gwh\x01\x01\x00\x00\x00"), ErrMalformed},
		{"unknown kind", []byte("gwh\x01\x63\x00\x00\x00"), ErrUnknownType},
		{"longer than the payload", []byte("gwh\x01\x01\x00\x00\x09"), ErrMalformed},
		{"padding is ignored", hello(func(b []byte) []byte { return append(b, make([]byte, 900)...) }), nil},
		{"unknown field is ignored", hello(field(200, "from the future")), nil},
		{"a field twice", hello(field(tagSite, "gray")), ErrMalformed},
		{"escape sequence in a name", hello(field(tagSection, "\x00"+strings.Repeat("d", 16)+"a\x1b[2J")), ErrMalformed},
		{"name too long", hello(field(tagSection, "\x00"+strings.Repeat("d", 16+MaxName+1))), ErrMalformed},
		{"no boot number", hello(func(b []byte) []byte { clear(b[headerLen+fieldLen:][:8]); return b }), ErrMalformed},
	} {
		if _, err := decode(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	var v *VersionError
	if _, err := decode([]byte("gwh\x09whatever")); !errors.As(err, &v) || v.Theirs != 9 {
		t.Errorf("another version: %v", err)
	}
}

// FuzzDecode: what decodes, encodes to what decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(appendMessage(nil, &m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(appendMessage(nil, &m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v\nbecame %+v, %v", m, again, err)
		}
	})
}
