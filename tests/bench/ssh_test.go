package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// The ports of a forwarding by ssh: sshd's, and the first of two that it listens on
// for the databases at its site, and that the far database listens on.
const (
	sshdPort = 2222
	sshPort  = 7000
)

// sshd is where OpenSSH's server is, if the machine has it.
func sshd() (string, bool) {
	for _, p := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if found, err := exec.LookPath(p); err == nil {
			abs, err := filepath.Abs(found) // sshd wants to be called by its whole path
			return abs, err == nil
		}
	}
	return "", false
}

// startSSH joins the sites by what people use who have no gateway: red's gateway
// calls gray's sshd and has it forward a port to red's database.
func startSSH(b *testing.B, name string, cfg lab.Config, sshd string) *contestant {
	b.Helper()
	l := lab.Start(b, cfg)
	red, gray := l.Red.GW(), l.Gray.GW()
	if err := gray.SetCongestion(usual); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	file := func(name string) string { return filepath.Join(l.Dir, name) }
	for _, key := range []string{"host", "client"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file(key)).CombinedOutput(); err != nil {
			b.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	config := fmt.Sprintf(`
Port %d
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
GatewayPorts yes
`, sshdPort, file("host"), file("client.pub"))
	if err := os.WriteFile(file("sshd_config"), []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	// sshd wants a directory that its package makes when the machine starts. The
	// mount is this process's own.
	script := fmt.Sprintf("mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec %s -D -e -f %s", sshd, file("sshd_config"))
	server, err := gray.Start(context.Background(), lab.Spec{Name: "sshd", Args: []string{"unshare", "-m", "sh", "-c", script}})
	if err == nil {
		err = server.Saw(ctx, "Server listening")
	}
	if err != nil {
		b.Fatal(err)
	}
	forward := func(port int) string { return fmt.Sprintf("*:%d:%s:%d", port, l.Red.DB().LAN4, port) }
	client, err := red.Start(context.Background(), lab.Spec{Name: "ssh", Args: []string{
		"ssh", "-v", "-N", "-F", "none", "-i", file("client"), "-p", fmt.Sprint(sshdPort),
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes",
		"-R", forward(sshPort), "-R", forward(sshPort + 1), "root@" + gray.WAN4.String(),
	}})
	if err == nil {
		err = client.Saw(ctx, fmt.Sprintf("remote forward success for: listen *:%d", sshPort+1))
	}
	if err != nil {
		b.Fatal(err)
	}
	c := &contestant{name: name, Lab: l, gateways: []*lab.Proc{server, client}}
	c.via = netip.AddrPortFrom(gray.LAN4, sshPort)
	return c
}
