package ha

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

func sampleMessages() map[string]message {
	own, yours := Claim{1_700_000_000_001, NodeID{1, 2, 3}}, Claim{1_700_000_000_002, NodeID{31: 9}}
	life := proof{boot: 7, uptime: 1_000_000, role: Active, flags: flagLAN | flagPlane, echoBoot: 9, echo: 2_000_000, tag: Tag{1, 2, 15: 3}}
	sibs := proof{boot: 9, uptime: 2_000_001, role: Standby, flags: flagLAN, tag: Tag{4, 15: 5}}
	return map[string]message{
		"beat": {
			kind: msgBeat, boot: 7, seq: 1, role: Active, flags: flagLAN | flagRecords, reach: 2, seen: own.Epoch, own: own, yours: yours,
			ownTag: Tag{6}, yoursTag: Tag{15: 7}, proof: life, sibs: sibs,
		},
		"ack": {kind: msgAck, boot: 7, seq: 2, epoch: own.Epoch},
		"ask": {kind: msgAsk, boot: 7, seq: 3, echoBoot: 7, echo: 99, proof: life},
		"answer": {
			kind: msgAnswer, boot: 8, seq: 4, echoBoot: 7, echo: 99, flags: flagSilent, role: Standby, age: 151, yours: yours,
			yoursTag: Tag{8}, sibs: sibs,
		},
		"yield":  {kind: msgYield, boot: 7, seq: 5, epoch: own.Epoch, flags: flagForced, reasonNum: ReasonDrain.code()},
		"refuse": {kind: msgRefuse, boot: 7, seq: 6, epoch: own.Epoch, reasonNum: ReasonRecords.code()},
	}
}

func sampleFrames() map[string]frame {
	data := []byte{opBegin, 3, opName, 1, 2, 3, 'k', 'e', 'v', 'a', 'l', opPut, 1, 0, opDelete, 1, opDrop, 1, 'x', opEnd, 3, opAll}
	return map[string]frame{
		"open": {kind: frameOpen, boot: 7, session: session{9, 1}},
		"sums": {kind: frameSums, boot: 8, session: session{9, 1}, pos: 4, sums: [buckets]uint32{1, 2, 255: 3}},
		"data": {kind: frameData, boot: 7, session: session{9, 1}, pos: 1, ops: append(data, opDigest, 1, 2, 3, 4, 5, 6, 7, 8)},
		"dack": {kind: frameAck, boot: 8, session: session{9, 1}, pos: 2, flags: flagEqual},
	}
}

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
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
	return want
}

// TestWireFormat holds the bytes: nodes of different releases meet on them.
func TestWireFormat(t *testing.T) {
	for name, m := range sampleMessages() {
		want := golden(t, name, appendMessage(nil, &m))
		var back message
		if err := decode(want, &back); err != nil || back != m {
			t.Errorf("%s: decoded %+v, %v, want %+v", name, back, err, m)
		}
		if len(want) > MaxPayload {
			t.Errorf("%s: %d bytes", name, len(want))
		}
	}
	for name, f := range sampleFrames() {
		want := golden(t, name, f.append(nil))
		var back frame
		if err := back.decode(want); err != nil || !reflect.DeepEqual(back, f) {
			t.Errorf("%s: decoded %+v, %v, want %+v", name, back, err, f)
		}
	}
}

func TestDecodeMistakes(t *testing.T) {
	beat := sampleMessages()["beat"]
	edit := func(at int, v byte) []byte {
		b := appendMessage(nil, &beat)
		b[at] = v
		return b
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"empty", nil, ErrMalformed},
		{"cut short", appendMessage(nil, &beat)[:MaxPayload-1], ErrMalformed},
		{"too long", append(appendMessage(nil, &beat), 0), ErrMalformed},
		{"another version", edit(3, Version+1), ErrVersion},
		{"unknown kind", edit(4, 99), ErrMalformed},
		{"unknown role", edit(headerLen, 4), ErrMalformed},
		{"unknown flag", edit(headerLen+1, 0x80), ErrMalformed},
	} {
		var m message
		if err := decode(tt.in, &m); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, ops := range [][]byte{{0}, {9}, {opName, 1, 0, 1}, {opName, 0, 1, 0, 'k'}, {opPut, 1, 5, 'x'}, {opBegin}, {opDigest, 1}, {opPut, 0x80}} {
		if _, _, err := nextOp(ops); !errors.Is(err, ErrMalformed) {
			t.Errorf("operation % x: %v", ops, err)
		}
	}
}

// FuzzDecode: what decodes, encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(appendMessage(nil, &m))
	}
	for _, m := range sampleFrames() {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		if decode(b, &m) == nil && !bytes.Equal(appendMessage(nil, &m), b) {
			t.Fatalf("message %+v is not % x", m, b)
		}
		var fr frame
		if fr.decode(b) == nil && !bytes.Equal(fr.append(nil), b) {
			t.Fatalf("frame %+v is not % x", fr, b)
		}
	})
}

// FuzzReplicator: a sibling that says anything is no reason to crash or to grow.
func FuzzReplicator(f *testing.F) {
	for _, m := range sampleFrames() {
		b := m.append(nil)
		f.Add(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...), true)
		open := frame{kind: frameOpen, boot: m.boot, session: m.session}
		o := open.append(nil)
		both := append([]byte{0, byte(len(o))}, o...)
		f.Add(append(append(both, byte(len(b)>>8), byte(len(b))), b...), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, lead bool) {
		s := store{"a": "1", "b": "2"}
		r := NewReplicator(0, ReplicatorConfig{Boot: 1, Store: s})
		r.Changed(0, []byte("a"))
		if lead {
			r.Lead(0, 9)
		}
		for now := time.Duration(0); len(b) > 2; now += time.Millisecond {
			size := min(int(b[0])<<8|int(b[1]), len(b)-2)
			out, _ := r.Handle(now, b[2:2+size])
			b = b[2+size:]
			if len(out) > window+2 || len(r.dst.held) > window {
				t.Fatalf("%d payloads for one, %d held", len(out), len(r.dst.held))
			}
			r.Tick(now)
			r.Changed(now, []byte("b"))
		}
		if r.idx.len > 2+len(s) {
			t.Fatalf("%d records", r.idx.len)
		}
	})
}

// BenchmarkBeat is a heartbeat of the sibling, handled.
func BenchmarkBeat(b *testing.B) {
	w := newWorld(1, false)
	n := w.nodes[0]
	n.start()
	m := message{kind: msgBeat, boot: 5, role: Standby, flags: flagLAN | flagPlane | flagHearsYou}
	buf := make([]byte, 0, MaxPayload)
	b.ReportAllocs()
	for b.Loop() {
		m.seq++
		if _, err := n.m.Handle(time.Duration(m.seq), w.nodes[1].id, appendMessage(buf, &m)); err != nil {
			b.Fatal(err)
		}
	}
}
