package records

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

// logTo logs to t and keeps the lines.
func logTo(t testing.TB) (hclog.Logger, *bytes.Buffer) {
	var lines bytes.Buffer
	t.Cleanup(func() { t.Log(lines.String()) })
	return hclog.New(&hclog.LoggerOptions{Output: &lines, Level: hclog.Debug}), &lines
}

func record(i int) Record {
	key := binary.BigEndian.AppendUint64([]byte("flow-"), uint64(i))
	return Record{key, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 40)}
}

func makeFile(n int) []byte {
	b := appendFileHeader(nil)
	for i := range n {
		r := record(i)
		b = appendEntry(b, opPut, r.Key, r.Value)
	}
	return b
}

func openStore(t testing.TB, dir string, snapshot Snapshot) (*Store, *bytes.Buffer) {
	t.Helper()
	log, lines := logTo(t)
	s, err := Open(Config{Dir: dir, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s.SetSnapshot(snapshot)
	return s, lines
}

// loadFile loads a file with the contents b.
func loadFile(t testing.TB, b []byte) (got []Record, dir string, lines *bytes.Buffer) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, lines := openStore(t, dir, nil)
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return got, dir, lines
}

func TestLoadLastWordCounts(t *testing.T) {
	b := makeFile(3)
	b = appendEntry(b, opDelete, record(1).Key, nil)
	b = appendEntry(b, opDelete, record(77).Key, nil)
	b = appendEntry(b, opPut, record(2).Key, []byte("new"))
	b = appendEntry(b, opDelete, record(0).Key, nil)
	b = appendEntry(b, opPut, record(0).Key, nil)
	got, _, lines := loadFile(t, b)
	want := []Record{{record(2).Key, []byte("new")}, {record(0).Key, []byte{}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if lines.Len() > 0 {
		t.Error("a good file is complained about")
	}
}

func TestLoadWhatIsNoGoodFile(t *testing.T) {
	newer := appendFileHeader(nil)
	newer[9] = 7
	binary.BigEndian.PutUint32(newer[12:], crc32.Checksum(newer[:12], castagnoli))
	newer = append(newer, makeFile(3)[fileHeader:]...)
	badHead := makeFile(3)
	badHead[9]++
	for name, c := range map[string]struct {
		file  []byte
		want  int
		aside string
		says  string
	}{
		"missing":        {nil, 0, "", ""},
		"empty":          {[]byte{}, 0, "", ""},
		"header only":    {makeFile(0), 0, "", ""},
		"other version":  {newer, 0, fileName + ".version-7", "version=7 known=1"},
		"header damaged": {badHead, 3, "", "places=1 bytes=16 read=3"},
		"header torn":    {makeFile(0)[:9], 0, fileName + ".damaged", "unreadable"},
		"something else": {[]byte(strings.Repeat("hello ", 100)), 0, fileName + ".damaged", "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			got, dir, lines := loadFile(t, c.file)
			if len(got) != c.want {
				t.Errorf("%d records, want %d", len(got), c.want)
			}
			if !strings.Contains(lines.String(), c.says) || c.says == "" && lines.Len() > 0 {
				t.Errorf("log lacks %q", c.says)
			}
			if c.aside == "" {
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, c.aside)); err != nil || !bytes.Equal(b, c.file) {
				t.Errorf("moved aside: %v, %d bytes", err, len(b))
			}
			if _, err := os.Stat(filepath.Join(dir, fileName)); !os.IsNotExist(err) {
				t.Error("still in its place")
			}
		})
	}
}

func TestTornAtEveryByte(t *testing.T) {
	b := makeFile(4)
	size := (len(b) - fileHeader) / 4
	for n := fileHeader; n <= len(b); n++ {
		c := decode(b[:n])
		whole := (n - fileHeader) / size
		if torn := (n - fileHeader) % size; len(c.records) != whole || c.lost != torn {
			t.Fatalf("%d bytes: %d records and %d bytes lost, want %d and %d", n, len(c.records), c.lost, whole, torn)
		}
	}
}

func TestDamageLosesOnlyWhatItHits(t *testing.T) {
	const n = 200
	clean := makeFile(n)
	size := (len(clean) - fileHeader) / n
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := bytes.Clone(clean)
		hit := map[int]bool{}
		for range 1 + rng.IntN(10) {
			at, run := rng.IntN(len(b)), 1+rng.IntN(60)
			for i := at; i < min(at+run, len(b)); i++ {
				b[i] ^= byte(1 + rng.IntN(255))
				if i >= fileHeader {
					hit[(i-fileHeader)/size] = true
				}
			}
		}
		// A byte that is hit twice may be right again, so some of what was hit
		// can be there; nothing else may be missing, and nothing may be wrong.
		got := map[string][]byte{}
		for _, r := range decode(b).records {
			got[string(r.Key)] = r.Value
		}
		for i := range n {
			r := record(i)
			v, ok := got[string(r.Key)]
			if !ok && !hit[i] || ok && !bytes.Equal(v, r.Value) {
				t.Fatalf("seed %d: record %d: there %v, hit %v", seed, i, ok, hit[i])
			}
			delete(got, string(r.Key))
		}
		if len(got) > 0 {
			t.Fatalf("seed %d: %d records out of nothing", seed, len(got))
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(makeFile(3))
	f.Add(appendEntry(makeFile(2), opDelete, record(1).Key, nil))
	f.Add(makeFile(2)[3:])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := decode(b)
		// What was read, written and read again is the same.
		again := appendFileHeader(nil)
		sum := 0
		for _, r := range c.records {
			if !fits(r.Key, r.Value) {
				t.Fatalf("record of %d, %d bytes", len(r.Key), len(r.Value))
			}
			sum += entryHeader + len(r.Key) + len(r.Value)
			again = appendEntry(again, opPut, r.Key, r.Value)
		}
		if sum+c.lost > len(b) {
			t.Fatalf("%d bytes of records and %d lost out of %d", sum, c.lost, len(b))
		}
		d := decode(again)
		same := func(a, b Record) bool { return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) }
		if !slices.EqualFunc(c.records, d.records, same) || d.lost != 0 {
			t.Fatal(cmp.Diff(c.records, d.records), d.lost)
		}
	})
}

func BenchmarkLoad100k(b *testing.B) {
	file := makeFile(100_000)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if c := decode(file); len(c.records) != 100_000 {
			b.Fatal(len(c.records))
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := &Store{wake: make(chan struct{}, 1), pending: make([]byte, 0, maxPending)}
	r := record(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Put(r.Key, r.Value)
		if s.dirty || len(s.pending) > maxPending/2 {
			s.pending, s.dirty = s.pending[:0], false
		}
	}
}
