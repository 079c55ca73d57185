package hostnet

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkBridge sends kernel TCP through two TUNs that this process joins. The CPU
// time is the whole process's: both kernel stacks and both ends' copies included.
func BenchmarkBridge(b *testing.B) {
	for _, driver := range []string{DriverOffload, DriverWater} {
		b.Run(driver, func(b *testing.B) {
			p := newPair(b, driver)
			l := p.b.listen("10.9.0.2:5432")
			got := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
				}
				got <- err
			}()
			c := p.a.dial("10.9.0.2:5432").(*net.TCPConn)
			buf := make([]byte, 256<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			c.CloseWrite()
			if err := <-got; err != nil {
				b.Fatal(err)
			}
			gb := float64(b.N) * float64(len(buf)) / 1e9
			b.ReportMetric((cpu()-before).Seconds()/gb, "cpu-s/GB")
			b.ReportMetric(gb*8/b.Elapsed().Seconds(), "Gbit/s")
		})
	}
}

// BenchmarkWrite writes single small packets, which the kernel drops for want of a
// socket.
func BenchmarkWrite(b *testing.B) {
	s := newSpace(b, "a")
	d := s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.do(func() { s.up("gw0", "10.9.0.1/24") })
	p, o := udpPacket("x", 0)
	p[12] = 127 // a martian source: dropped at once
	vec := [][]byte{p[:20], p[20:]}
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Write(vec, o); err != nil {
			b.Fatal(err)
		}
	}
}
