package capture

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/capture/capturetest"
	"github.com/onewaylink/gw/netstack/wire"
)

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
	f, err := capturetest.Read(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 14, 15, 9, 26, 123456789, time.UTC)
	want := capturetest.File{
		Interfaces: []string{"gw0", "link"},
		Packets: []capturetest.Packet{
			{Interface: "gw0", Inbound: true, At: at, Comment: "rule replication (site.hcl:31)", Data: syn(), Length: 40},
			{Interface: "link", At: at.Add(time.Microsecond), Comment: "rule replication (site.hcl:31)", Data: syn(), Length: 40},
			{Interface: "link", Inbound: true, At: at.Add(2 * time.Microsecond), Comment: "dropped: denied", Data: data(0), Length: 1400},
			{Interface: "gw0", At: at.Add(3 * time.Microsecond), Data: data(0), Length: 40},
		},
		Lost: 7,
	}
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestTcpdumpReadsIt, and which way each packet went.
func TestTcpdumpReadsIt(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Fatal("there is no tcpdump here: run tests/deps.sh")
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
