package carriertest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// Test holds carriers to the contract of bind.Carrier. New makes one; those that one test makes
// reach each other, and all are at host.
func Test(t *testing.T, host string, makeCarrier func() bind.Carrier) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, string, func() bind.Carrier)
	}{
		{"batches arrive in order", testOrder},
		{"an answer returns", testAnswer},
		{"opens again after close", testReopen},
		{"the port is taken", testTaken},
		{"another carrier's endpoint", testWrongEndpoint},
		{"endpoints", testEndpoints},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, host, makeCarrier) })
	}
}

// end is an open Carrier, of which all ReceiveFuncs are read.
type end struct {
	bind.Carrier
	port uint16
	got  chan arrived
}

type arrived struct {
	m    []byte
	from bind.Endpoint
}

func open(t *testing.T, c bind.Carrier) *end {
	t.Helper()
	fns, port, err := c.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	e := &end{Carrier: c, port: port, got: make(chan arrived, 4096)}
	ended := make(chan error, len(fns))
	for _, receive := range fns {
		go func() { ended <- e.read(receive) }()
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for range fns {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("receive after Close: %v", err)
			}
		}
	})
	return e
}

func (e *end) read(receive conn.ReceiveFunc) error {
	bufs := make([][]byte, e.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, 1<<16-1)
	}
	sizes, eps := make([]int, len(bufs)), make([]conn.Endpoint, len(bufs))
	for {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			return err
		}
		for i := range n {
			if sizes[i] > 0 {
				e.got <- arrived{bytes.Clone(bufs[i][:sizes[i]]), eps[i].(bind.Endpoint)}
			}
		}
	}
}

func (e *end) endpoint(t *testing.T, host string, port uint16) conn.Endpoint {
	t.Helper()
	ep, err := e.ParseEndpoint(fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// message makes a datagram that differs from others.
func message(size, number int) []byte {
	m := make([]byte, size)
	for i := range m {
		m[i] = byte(number + i)
	}
	return m
}

func testOrder(t *testing.T, host string, makeCarrier func() bind.Carrier) {
	near, far := open(t, makeCarrier()), open(t, makeCarrier())
	to := near.endpoint(t, host, far.port)
	datagrams, size := 0, 0
	for _, batch := range [][]int{{1452}, {32, 1452, 64, 8}, {1452, 1452, 1452, 1452, 1452, 200}, {8}} {
		var bufs [][]byte
		for i, n := range batch {
			bufs = append(bufs, message(n, i))
			datagrams, size = datagrams+1, size+n
		}
		if err := near.Send(bufs, to); err != nil {
			t.Fatal(err)
		}
		want := bufs[:0:0]
		for _, m := range bufs {
			want = append(want, bytes.Clone(m))
			clear(m) // the carrier keeps no buffer
		}
		for i := range want {
			if got := <-far.got; !bytes.Equal(got.m, want[i]) {
				t.Fatalf("datagram %d of %v: got %d bytes, or others than were sent", i, batch, len(got.m))
			}
		}
	}
	sent, received := near.Stats(), far.Stats()
	if sent.SentDatagrams != uint64(datagrams) || sent.SentBytes != uint64(size) {
		t.Errorf("counts %d datagrams and %d bytes as sent, want %d and %d", sent.SentDatagrams, sent.SentBytes, datagrams, size)
	}
	if received.ReceivedDatagrams != uint64(datagrams) || received.ReceivedBytes != uint64(size) {
		t.Errorf("counts %d datagrams and %d bytes as received, want %d and %d", received.ReceivedDatagrams, received.ReceivedBytes, datagrams, size)
	}
	if none := (bind.CarrierStats{}); sent.Drops != none.Drops || received.Drops != none.Drops {
		t.Errorf("drops: %v, %v", sent.Drops, received.Drops)
	}
}

func testAnswer(t *testing.T, host string, makeCarrier func() bind.Carrier) {
	near, far := open(t, makeCarrier()), open(t, makeCarrier())
	if err := near.Send([][]byte{message(64, 1), message(65, 2)}, near.endpoint(t, host, far.port)); err != nil {
		t.Fatal(err)
	}
	first, second := <-far.got, <-far.got
	if first.from != second.from {
		t.Error("two endpoints for one peer in a row")
	}
	if err := far.Send([][]byte{message(66, 3)}, first.from); err != nil {
		t.Fatal(err)
	}
	if got := <-near.got; len(got.m) != 66 || got.from.AddrPort() != near.endpoint(t, host, far.port).(bind.Endpoint).AddrPort() {
		t.Errorf("the answer has %d bytes and comes from %s", len(got.m), got.from.AddrPort())
	}
}

func testReopen(t *testing.T, host string, makeCarrier func() bind.Carrier) {
	c := makeCarrier()
	if err := c.Close(); err != nil {
		t.Errorf("Close before Open: %v", err)
	}
	ep, err := c.ParseEndpoint(host + ":9")
	if err != nil {
		t.Fatal(err)
	}
	var port uint16
	for range 3 {
		if err := c.Send([][]byte{message(64, 0)}, ep); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send while closed: %v", err)
		}
		fns, got, err := c.Open(port)
		if err != nil {
			t.Fatal(err)
		}
		if port != 0 && got != port {
			t.Errorf("opened port %d, want %d", got, port)
		}
		port = got
		if _, _, err := c.Open(port); !errors.Is(err, conn.ErrBindAlreadyOpen) {
			t.Errorf("second Open: %v", err)
		}
		ended := make(chan error, len(fns))
		for _, receive := range fns {
			go func() {
				_, err := receive([][]byte{make([]byte, 2048)}, make([]int, 1), make([]conn.Endpoint, 1))
				ended <- err
			}()
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		for range fns {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("receive after Close: %v", err)
			}
		}
	}
}

func testTaken(t *testing.T, _ string, makeCarrier func() bind.Carrier) {
	first := open(t, makeCarrier())
	if _, _, err := makeCarrier().Open(first.port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Open of a taken port: %v", err)
	}
}

func testWrongEndpoint(t *testing.T, _ string, makeCarrier func() bind.Carrier) {
	if err := open(t, makeCarrier()).Send([][]byte{message(64, 0)}, &conn.StdNetEndpoint{}); !errors.Is(err, conn.ErrWrongEndpointType) {
		t.Errorf("Send to another carrier's endpoint: %v", err)
	}
}

func testEndpoints(t *testing.T, host string, makeCarrier func() bind.Carrier) {
	c := makeCarrier()
	made, err := c.ParseEndpoint(host + ":51820")
	if err != nil {
		t.Fatal(err)
	}
	ep := made.(bind.Endpoint)
	if got := ep.AddrPort().String(); got != host+":51820" || ep.DstToString() != got || ep.DstIP() != ep.AddrPort().Addr() {
		t.Errorf("%s:51820 became %s, %s, %s", host, got, ep.DstToString(), ep.DstIP())
	}
	if ep.Session().Is(0) || ep.Session().Is(7) {
		t.Error("a new endpoint has a session")
	}
	ep.Session().Set(7)
	if !ep.Session().Is(7) || ep.Session().Is(8) {
		t.Error("the session is not the one that was set")
	}
	for _, bad := range []string{"", host, "example.com:51820"} {
		if _, err := c.ParseEndpoint(bad); err == nil {
			t.Errorf("ParseEndpoint(%q): no error", bad)
		}
	}
}
