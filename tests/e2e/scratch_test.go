package e2e

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"strconv"

	"github.com/onewaylink/gw/tests/lab"
)

func TestScratch(t *testing.T) {
	mode := os.Getenv("MODE")
	delay, _ := time.ParseDuration(os.Getenv("DELAY"))
	loss, _ := strconv.ParseFloat(os.Getenv("LOSS"), 64)
	mb, _ := strconv.Atoi(os.Getenv("MB"))
	back, _ := strconv.Atoi(os.Getenv("BACK"))
	rules := strings.ReplaceAll(everything, `["any"]`, `["any"]
    mode = "`+mode+`"`)
	if mode == "" { rules = everything }
	rate := lab.Impairment{Delay: delay / 2, Loss: loss, Rate: 300e6, QueueBytes: 2<<20}
	n := start(t, setup{lab: lab.Config{Impaired: true}, rules: rules})
	n.Box.SetBoth(rate)
	<-time.After(3 * time.Second)
	for i, w := range n.ways()[:2] {
		begin := time.Now()
		tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
			From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, uint16(6000+i)),
			Bytes: int64(mb) << 20, Back: int64(back) << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			res, err := tr.Wait()
			d := time.Since(begin)
			t.Logf("%s: %v %+v in %v: %.0f Mbit/s", w.name, err, res, d, float64(mb+back)*8.388/d.Seconds())
			if err != nil { t.Fail() }
		}()
		for k := 0; ; k++ {
			select {
			case <-done:
			case <-time.After(500 * time.Millisecond):
				for _, nd := range []*node{n.red, n.gray} {
					for _, c := range nd.conns() {
						if c.DestinationPort == uint16(6000+i) {
							t.Logf("%s: %s %s %s out %d in %d", nd.name, c.Mode, c.Why, c.State, c.BytesOut, c.BytesIn)
						}
					}
				}
				if k > 60 { t.Fatal("too long") }
				continue
			}
			break
		}
	}
	t.Logf("red:\n%s", n.red.proc.Log.Tail(30))
	t.Logf("gray:\n%s", n.gray.proc.Log.Tail(30))
	for _, d := range []*node{n.red, n.gray} { s, _ := d.status(); for _, r := range s.Drops { if r.Packets > 0 { t.Log(d.name, r.Reason, r.Packets) } } }
}
