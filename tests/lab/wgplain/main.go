// Command wgplain is plain wireguard-go: its own TUN, device and bind, nothing of
// gw. The lab runs it as the baseline in benchmarks and as a peer that sends no
// hello. It reads a UAPI configuration ("set", without that line) from standard
// input to its end, prints "ready", and runs until SIGTERM or SIGINT.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wgplain:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("tun", "wg0", "name of the TUN device")
	mtu := flag.Int("mtu", device.DefaultMTU, "its MTU in bytes")
	verbose := flag.Bool("verbose", false, "log every handshake")
	flag.Parse()

	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	t, err := tun.CreateTUN(*name, *mtu)
	if err != nil {
		return fmt.Errorf("open tun %q: %w", *name, err)
	}
	level := device.LogLevelError
	if *verbose {
		level = device.LogLevelVerbose
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(level, ""))
	// Close also closes the TUN.
	defer d.Close()
	if err := d.IpcSet(string(config)); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := d.Up(); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	fmt.Println("ready")
	select {
	case <-end:
	case <-d.Wait():
	}
	return nil
}
