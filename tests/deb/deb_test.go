//go:build deb

package deb

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// build makes a package of a version, as 1.deb or the like in dir.
func build(t *testing.T, dir, version string) {
	t.Helper()
	cmd := exec.Command("make", "-s", "deb", "VERSION="+version, "DEB_VERSION="+version)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make deb: %v\n%s", err, out)
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = "../../dist"
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 2 {
		t.Fatalf("SHA256SUMS, of the package and its SBOM: %v\n%s", err, out)
	}
	found, err := filepath.Glob("../../dist/gw_" + version + "_*.deb")
	if err != nil || len(found) != 1 {
		t.Fatalf("make deb: %v, %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, version+".deb"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{found[0], strings.TrimSuffix(found[0], ".deb") + ".cdx.json", "../../dist/SHA256SUMS"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPackage: a package is installed on two machines, configured, upgraded with
// connections open, removed and purged.
func TestPackage(t *testing.T) {
	l := lab.Start(t, lab.Config{})
	share := filepath.Join(l.Dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, share, "1.0.0")
	build(t, share, "1.0.1")
	red, gray := start(t, l, l.Red.GW(), "red-1", share), start(t, l, l.Gray.GW(), "gray-1", share)
	both := []*machine{red, gray}

	for _, m := range both {
		wants(t, m.run("dpkg -i /run/share/1.0.0.deb"), "systemctl enable --now gw")
		wants(t, m.run("gw version"), "gw 1.0.0 ")
		wants(t, m.run("getent passwd gw"), "/nologin")
		// Without a configuration nothing runs, and an example is none.
		m.run("test -f /etc/gw/site.hcl.example && systemctl start gw")
		m.fails("systemctl is-active gw")
		m.run("man -w gw && man -w gw-ha-drain && man -w gw.hcl")
		m.run("cd /usr/share/doc/gw && test -s copyright -a -s THIRD-PARTY -a -s SECURITY.md -a -s security.md -a -s sbom.cdx.json")
		m.run("bash -c '. /usr/share/bash-completion/completions/gw; complete -p gw'")
	}

	red.run("gw init --dir /run/share/site --endpoint " + gray.host.WAN4.String() + ":51820")
	for _, m := range both {
		m.run("cp /run/share/site/site.hcl /run/share/site/" + m.name + ".key /etc/gw/ && gw validate -c /etc/gw && systemctl enable --now gw")
		// systemd has waited until it answers.
		wants(t, m.run("gw status"), "node: "+m.name)
		m.run("test -e /etc/systemd/system/multi-user.target.wants/gw.service && test -e /etc/systemd/system/sysinit.target.wants/gw-hold.service")
		testUser(t, m)
	}
	red.linkUp()
	gray.linkUp()

	t.Run("upgrade", func(t *testing.T) {
		serve(t, l.Red.DB())
		serve(t, l.Gray.DB())
		pools := openPools(t, l)
		for _, m := range both {
			m.run("echo '# mine' >> /etc/gw/site.hcl.example")
			before := m.run("systemctl show -P MainPID gw")
			if m == red {
				// As if the package before had run the gateway as root.
				m.run("chown -R root:root /var/lib/gw /var/log/gw /run/gw && chmod 600 /etc/gw/site.hcl")
			}
			m.run("dpkg -i /run/share/1.0.1.deb")
			testUser(t, m)
			if after := m.run("systemctl show -P MainPID gw"); after == before || after == "0" {
				t.Errorf("%s: process %s before, %s after", m.name, before, after)
			}
			wants(t, m.run("gw status"), "version: 1.0.1")
			wants(t, m.run("tail -n 1 /etc/gw/site.hcl.example"), "# mine")
		}
		for _, p := range pools {
			if err := p.Check(patience); err != nil {
				t.Error(err)
			}
		}
		// A configuration that the new program refuses leaves the old one running.
		pid := red.run("systemctl show -P MainPID gw")
		red.run("echo 'sight {}' > /etc/gw/wrong.hcl")
		wants(t, red.run("dpkg -i /run/share/1.0.0.deb"), "left as it is")
		red.run("rm /etc/gw/wrong.hcl")
		// As does a key that the service would not get: systemd follows no link.
		red.run("mv /etc/gw/red-1.key /root/ && ln -s /root/red-1.key /etc/gw/")
		wants(t, red.run("dpkg -i /run/share/1.0.0.deb"), "left as it is")
		red.run("mv /root/red-1.key /etc/gw/")
		if now := red.run("systemctl show -P MainPID gw"); now != pid {
			t.Errorf("process %s before, %s after a faulty configuration, want the same", pid, now)
		}
		red.run("dpkg -i /run/share/1.0.1.deb")
		for _, p := range pools {
			if err := p.Check(patience); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("holds", func(t *testing.T) { testHolds(t, red) })
	t.Run("audit log", func(t *testing.T) { testAudit(t, red) })
	t.Run("hardening", func(t *testing.T) { testHardening(t, red) })

	for _, m := range both {
		wants(t, m.run("dpkg -r gw"), "opened: packets for 10.77.")
		m.fails("ip route show proto 103 | grep .")
		m.fails("systemctl is-active gw")
		m.fails("ip link show gw0")
		m.run("test -f /etc/gw/site.hcl && test -f /etc/gw/" + m.name + ".key && test -d /var/lib/gw/" + m.name)
		m.fails("test -e /usr/bin/gw || test -e /etc/systemd/system/multi-user.target.wants/gw.service || test -e /etc/systemd/system/sysinit.target.wants/gw-hold.service")
	}
	out := red.run("dpkg -P gw")
	wants(t, out, "holds your configuration and keys")
	wants(t, out, "holds the audit log")
	red.run("test -f /etc/gw/red-1.key && test -f /var/log/gw/audit.log")
	red.fails("test -e /var/lib/gw || test -e /etc/gw/site.hcl.example")
	gray.run("rm /etc/gw/site.hcl /etc/gw/gray-1.key && dpkg -P gw")
	gray.fails("test -e /etc/gw || test -e /var/log/gw")
}

// testUser: the gateway runs as its own user, who owns what it writes and can't read the key's
// file, and no core of the process is written.
func testUser(t *testing.T, m *machine) {
	m = m.in(t)
	pid := m.run("systemctl show -P MainPID gw")
	wants(t, m.run("ps -o user= -p "+pid), "gw")
	wants(t, m.run("stat -c '%U %a' /etc/gw/"+m.name+".key"), "root 600")
	m.fails("runuser -u gw -- cat /etc/gw/" + m.name + ".key")
	if others := m.run("find /var/lib/gw /var/log/gw /run/gw ! -user gw"); others != "" {
		t.Errorf("%s: not the gateway's: %s", m.name, others)
	}
	wants(t, m.run("ls /run/credentials/gw.service"), "gw_"+m.name+".key")
	wants(t, m.run("grep 'Max core file size' /proc/"+pid+"/limits"), "0                    0")
	m.fails("runuser -u gw -- cat /proc/" + pid + "/mem")
	// The key does not go to others: not the file, and not the copy.
	m.fails("runuser -u nobody -- ls /run/credentials/gw.service/")
}

// testHolds: a stopped gateway leaves its holds; gw down opens them, and the unit for the boot puts
// them in place again, also with a mistake in the files and without the key.
func testHolds(t *testing.T, m *machine) {
	m = m.in(t)
	const held = "ip route show proto 103 type blackhole | grep -w 10.77.2.0/24"
	m.run("systemctl stop gw && " + held)
	m.fails("ip link show gw0")
	m.run("gw down")
	m.fails(held)
	m.run("systemctl restart gw-hold && " + held)
	m.run("gw down && echo 'sight {' > /etc/gw/wrong.hcl && mv /etc/gw/red-1.key /run/ && systemctl restart gw-hold && " + held)
	m.run("rm /etc/gw/wrong.hcl && mv /run/red-1.key /etc/gw/ && systemctl start gw")
	wants(t, m.fails("gw down"), "stop it first")
	m.linkUp()
}

// testAudit: the unit's directory takes the audit log, what the package installs for logrotate
// reopens it without a reload, and systemd shows how a reload ended.
func testAudit(t *testing.T, m *machine) {
	m = m.in(t)
	m.run(`printf 'local {\n  audit { to = "/var/log/gw/audit.log" }\n}\n' > /etc/gw/audit.hcl && gw validate -c /etc/gw && systemctl restart gw`)
	pid := m.run("systemctl show -P MainPID gw")
	reloads := func(file, want string) {
		t.Helper()
		m.until(want+" reloads in "+file, func() bool {
			out, _ := m.try("grep -c '\"event\":\"reload\"' /var/log/gw/" + file)
			return strings.TrimSpace(out) == want
		})
	}
	m.run("systemctl reload gw")
	reloads("audit.log", "1")
	wants(t, m.run("stat -c '%U %a' /var/log/gw /var/log/gw/audit.log"), "gw 750\ngw 600")
	m.run("cd /var/log/gw && mv audit.log audit.log.1 && sh -ec \"$(sed -n '/postrotate/,/endscript/{//!p}' /etc/logrotate.d/gw)\"")
	m.until("a new file", func() bool { _, err := m.try("test -f /var/log/gw/audit.log"); return err == nil })
	m.run("systemctl reload gw")
	reloads("audit.log", "1")
	reloads("audit.log.1", "1")
	m.run("echo 'sight {}' > /etc/gw/wrong.hcl")
	m.fails("systemctl reload gw")
	m.run("rm /etc/gw/wrong.hcl /etc/gw/audit.hcl")
	if now := m.run("systemctl show -P MainPID gw"); now != pid {
		t.Errorf("process %s before, %s after", pid, now)
	}
}

// testHardening removes what the unit allows, one after the other, and looks
// for what then fails; and has the watchdog end a process that stands still.
func testHardening(t *testing.T, m *machine) {
	m = m.in(t)
	const dir = "/run/systemd/system/gw.service.d"
	m.run("mkdir -p " + dir)
	with := func(lines string) {
		t.Helper()
		m.run("printf '[Service]\\n" + lines + "\\n' > " + dir + "/test.conf && systemctl daemon-reload && systemctl reset-failed gw")
	}
	fails := func(lines, why string) {
		t.Helper()
		with(lines)
		m.run("journalctl --rotate && journalctl --vacuum-time=1us; systemctl restart --no-block gw")
		var out string
		m.until(lines+": gw logs "+why, func() bool {
			out, _ = m.try("journalctl -b --no-pager -o cat -u gw")
			return strings.Contains(out, why)
		})
		for line := range strings.Lines(out) {
			if strings.Contains(line, why) {
				t.Logf("%s: %s", lines, line)
				break
			}
		}
	}
	works := func(lines string) {
		t.Helper()
		with(lines)
		m.run("systemctl restart gw")
	}
	fails(`AmbientCapabilities=\nAmbientCapabilities=CAP_NET_RAW\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_RAW`, "CAP_NET_ADMIN is missing")
	fails(`DeviceAllow=\nDevicePolicy=closed`, "/dev/net/tun: this user may not open it")

	// One of a pair with an address on the LAN, on a host that has IPv6 off.
	m.run(`cp -p /etc/gw/site.hcl /run/site.hcl && key=$(gw genkey | gw pubkey) && sed -i '
		s|"10.77.1.0/24"|"10.77.1.0/24", "fd77:1::/64"|
		s|address *= "10.77.1.1"|address = ["10.77.1.1", "fd77:1::1"]\nsibling_endpoint = "10.77.1.251:51820"\n}\n` +
		`pair { vip = ["10.77.1.250/24", "fd77:1::250/64"] }\n` +
		`node "red-2" {\npublic_key = "'$key'"\naddress = ["10.77.1.2", "fd77:1::2"]\nsibling_endpoint = "10.77.1.252:51820"|
		' /etc/gw/site.hcl && echo 'local { lan = "lan0" }' > /etc/gw/local.hcl && gw validate -c /etc/gw
		sysctl -q -w net.ipv6.conf.default.disable_ipv6=1`)
	works("")
	wants(t, m.run("gw ha status"), "node: red-1")
	fails(`AmbientCapabilities=\nAmbientCapabilities=CAP_NET_ADMIN\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_ADMIN`, "or with CAP_NET_RAW")
	fails(`ReadWritePaths=`, "read-only file system")
	m.run("mv /run/site.hcl /etc/gw/site.hcl && rm /etc/gw/local.hcl && sysctl -q -w net.ipv6.conf.default.disable_ipv6=0")

	works("WatchdogSec=2")
	m.linkUp()
	pid := m.run("systemctl show -P MainPID gw")
	m.run("kill -STOP " + pid)
	m.until("the watchdog restarts it", func() bool {
		return m.run("systemctl show -P MainPID gw") != pid && m.run("systemctl show -P ActiveState gw") == "active"
	})
	wants(t, m.run("journalctl -b --no-pager -u gw"), "SIGABRT")
	works("")
	m.linkUp()
	if out, _ := m.try("gw doctor"); strings.Contains(out, "could not be") || strings.Contains(out, "permi") || !strings.Contains(out, "host clock:") {
		t.Errorf("the unit blocks a query of gw doctor:\n%s", out)
	}
	if journal := m.run("journalctl -b --no-pager -o cat -u gw"); strings.Contains(journal, "could not be checked") {
		t.Errorf("the unit blocks a check of the gateway:\n%s", journal)
	}
	t.Log(m.run("systemd-analyze security --no-pager gw | tail -n 1"))
}

func wants(t *testing.T, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("the output lacks %q:\n%s", want, out)
	}
}

// serve lets a database's host answer on PostgreSQL's port by an echo.
func serve(t *testing.T, h *lab.Host) {
	t.Helper()
	echo, err := lab.EchoTCP(t.Context(), h.Namespace, netip.AddrPortFrom(h.LAN4, 5432))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
}

// openPools opens connections by the rule of `gw init`, from either side.
func openPools(t *testing.T, l *lab.Lab) (pools []*lab.Pool) {
	t.Helper()
	red, gray := l.Red.DB(), l.Gray.DB()
	for _, w := range [][2]*lab.Host{{red, gray}, {gray, red}} {
		p, err := lab.OpenPool(t.Context(), w[0].Namespace, netip.AddrPortFrom(w[1].LAN4, 5432), 50)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		pools = append(pools, p)
	}
	return pools
}
