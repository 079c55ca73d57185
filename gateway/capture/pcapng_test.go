package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/netstack/wire"
)

// read is a small reader of pcapng, written from the draft and not from the Writer. It
// returns the names of the interfaces and a line for each packet.
func read(t *testing.T, b []byte) (ifaces, packets []string, lost uint64) {
	t.Helper()
	u32 := binary.NativeEndian.Uint32
	u16 := binary.NativeEndian.Uint16
	options := func(o []byte) map[uint16]string {
		m := map[uint16]string{}
		for len(o) >= 4 && u16(o) != 0 {
			code, n := u16(o), int(u16(o[2:]))
			m[code] = string(o[4 : 4+n])
			o = o[4+(n+3)&^3:]
		}
		if len(o) != 4 {
			t.Fatalf("%d bytes behind the end of the options", len(o))
		}
		return m
	}
	for len(b) > 0 {
		n := int(u32(b[4:]))
		if n%4 != 0 || n > len(b) || u32(b[n-4:]) != uint32(n) {
			t.Fatalf("a block of %d bytes, %d left", n, len(b))
		}
		body := b[8 : n-4]
		switch u32(b) {
		case 0x0a0d0d0a:
			if u32(body) != 0x1a2b3c4d {
				t.Fatal("byte order")
			}
			options(body[16:])
		case 1:
			o := options(body[8:])
			if u16(body) != 113 || o[9] != "\x09" {
				t.Fatalf("link type %d, resolution %q", u16(body), o[9])
			}
			ifaces = append(ifaces, o[2])
		case 6:
			at := time.Unix(0, int64(u32(body[4:]))<<32|int64(u32(body[8:]))).UTC()
			caplen := int(u32(body[12:]))
			o := options(body[20+(caplen+3)&^3:])
			dir := map[string]string{"\x01\x00\x00\x00": "in", "\x02\x00\x00\x00": "out"}[o[2]]
			packets = append(packets, strings.Join([]string{ifaces[u32(body)], dir, at.Format("15:04:05.000000000"), o[1]}, " "))
		case 5:
			lost = binary.NativeEndian.Uint64([]byte(options(body[12:])[5]))
		default:
			t.Fatalf("block %#x", u32(b))
		}
		b = b[n:]
	}
	return ifaces, packets, lost
}

func sample(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Labels{Software: "gw test", Node: "red-1", Device: "gw0"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 14, 15, 9, 26, 123456789, time.UTC).UnixNano()
	for _, s := range []Sight{
		{Point: FromHost, Rule: "replication", Pos: "site.hcl:31", Head: syn(), Length: 40},
		{Point: ToLink, Rule: "replication", Pos: "site.hcl:31", Head: syn(), Length: 40},
		{Point: FromLink, Reason: wire.Denied, Head: data(0), Length: 1400},
		{Point: ToHost, Head: data(0), Length: 40},
	} {
		s.At = at
		at += 1000
		if err := w.Write(&Record{Sight: s}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(at, 7); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWriter(t *testing.T) {
	ifaces, packets, lost := read(t, sample(t))
	if d := cmp.Diff([]string{"gw0", "link"}, ifaces); d != "" {
		t.Errorf("interfaces (-want +got):\n%s", d)
	}
	want := []string{
		"gw0 in 15:09:26.123456789 rule replication (site.hcl:31)",
		"link out 15:09:26.123457789 rule replication (site.hcl:31)",
		"link in 15:09:26.123458789 dropped: denied",
		"gw0 out 15:09:26.123459789 ",
	}
	if d := cmp.Diff(want, packets); d != "" {
		t.Errorf("packets (-want +got):\n%s", d)
	}
	if lost != 7 {
		t.Errorf("%d lost", lost)
	}
}

// TestTcpdumpReadsIt where there is one.
func TestTcpdumpReadsIt(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("no tcpdump here; TestWriter reads the file")
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(file, sample(t), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tcpdump, "-ettnr", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := strings.Count(string(out), "10.77.1.10.40000 > 10.77.2.10.5432: Flags ["); n != 4 {
		t.Errorf("tcpdump reads %d of 4 packets:\n%s", n, out)
	}
	for _, want := range []string{"length 1416", " In ", "Out "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("tcpdump does not see %q:\n%s", want, out)
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestWriterTellsErrors(t *testing.T) {
	w, err := NewWriter(&failing{after: 1}, Labels{})
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Sight: Sight{Head: syn(), Length: 40}}
	for range 2 {
		if err := w.Write(&r); err == nil || !strings.Contains(err.Error(), "write capture: disk full") {
			t.Errorf("got %v", err)
		}
	}
}
