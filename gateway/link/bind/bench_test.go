package bind_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// transport makes a WireGuard transport message of a size for a session.
func transport(size int, index uint32) []byte {
	m := make([]byte, size)
	m[0] = 4
	binary.LittleEndian.PutUint32(m[4:], index)
	return m
}

// response makes a handshake response, well-formed but for its cryptography.
func response(sender, receiver uint32) []byte {
	m := make([]byte, 92)
	m[0] = 2
	binary.LittleEndian.PutUint32(m[4:], sender)
	binary.LittleEndian.PutUint32(m[8:], receiver)
	return withMAC(m)
}

// initiation makes a handshake initiation without cryptography.
func initiation(sender uint32) []byte {
	m := make([]byte, 148)
	m[0] = 1
	binary.LittleEndian.PutUint32(m[4:], sender)
	return m
}

// withMAC completes a handshake message to the zero public key.
func withMAC(m []byte) []byte {
	key := blake2s.Sum256(append([]byte("mac1----"), make([]byte, 32)...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(err) // the key's length is a constant
	}
	at := len(m) - 32
	h.Write(m[:at])
	copy(m[at:], h.Sum(nil))
	return m
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoopback carries datagrams of a full Ethernet frame from one Bind
// to another, for ours and for wireguard-go's. One operation is a datagram.
// batch is what a device sends at once.
func BenchmarkLoopback(b *testing.B) {
	const index = 7
	kinds := []struct {
		name string
		make func() conn.Bind
	}{
		{"std", conn.NewStdNetBind},
		{"gw", func() conn.Bind { return bind.New(bind.Config{Peers: []bind.Peer{{DialsIn: true}}}, newUDP()) }},
	}
	for _, batch := range []int{1, 16, 44, 128} {
		for _, k := range kinds {
			b.Run(fmt.Sprintf("batch=%d/%s", batch, k.name), func(b *testing.B) {
				from, to := k.make(), k.make()
				defer from.Close()
				if _, _, err := from.Open(0); err != nil {
					b.Fatal(err)
				}
				fns, port, err := to.Open(0)
				if err != nil {
					b.Fatal(err)
				}
				ep, err := from.ParseEndpoint(fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					b.Fatal(err)
				}
				// The receiver has told of the session.
				if err := to.Send([][]byte{response(index, 1)}, ep); err != nil {
					b.Fatal(err)
				}

				inFlight := bind.NewGate(512)
				var wg sync.WaitGroup
				for _, receive := range fns {
					wg.Go(func() {
						bufs := make([][]byte, to.BatchSize())
						for i := range bufs {
							bufs[i] = make([]byte, 1<<16-1)
						}
						sizes := make([]int, len(bufs))
						eps := make([]conn.Endpoint, len(bufs))
						for {
							n, err := receive(bufs, sizes, eps)
							if err != nil {
								if !errors.Is(err, net.ErrClosed) {
									b.Error(err)
								}
								return
							}
							inFlight.Leave(n)
						}
					})
				}
				const size = 1452
				bufs := make([][]byte, batch)
				for i := range bufs {
					bufs[i] = make([]byte, 1<<16-1)[:size] // as wireguard-go's are
					copy(bufs[i], transport(size, index))
				}
				b.ReportAllocs()
				b.SetBytes(size)
				b.ResetTimer()
				cpu := cpuTime(b)
				for n := 0; n < b.N; n += batch {
					inFlight.Enter(batch)
					if err := from.Send(bufs, ep); err != nil {
						b.Fatal(err)
					}
				}
				inFlight.Enter(1)
				cpu = cpuTime(b) - cpu
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
				b.ReportMetric(cpu.Seconds()/float64(b.N*size)*1e9, "cpu-s/GB")
				b.ReportMetric(float64(inFlight.Resets()), "resets")
				if to, ok := to.(*bind.Bind); ok && to.Stats().UnknownSessions > 0 {
					b.Errorf("%d datagrams of a session that the receiver does not know", to.Stats().UnknownSessions)
				}
				to.Close()
				wg.Wait()
			})
		}
	}
}
