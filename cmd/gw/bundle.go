package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// commandTime bounds each program that tells of the host.
const commandTime = 10 * time.Second

type bundleCmd struct {
	doctorFlags
	Output string `short:"o" default:"gw-bundle.tar.gz" placeholder:"FILE" complete:"file" help:"File to write; one that exists is not written over."`
}

// Help is shown by kong below the command.
func (bundleCmd) Help() string {
	return "Packs status, connections, the pair, doctor's findings, the configuration, facts of the host and the recent log, for whoever helps. Keys are " +
		"replaced by fingerprints everywhere; addresses and names stay."
}

// hostFacts are commands that tell of the host; one that is missing or fails says so in its file.
var hostFacts = []struct {
	name string
	args []string
}{
	{"host/uname.txt", []string{"uname", "-a"}},
	{"host/addresses.txt", []string{"ip", "address"}},
	{"host/links.txt", []string{"ip", "-stats", "link"}},
	{"host/routes.txt", []string{"ip", "route", "show", "table", "all"}},
	{"host/routes6.txt", []string{"ip", "-6", "route", "show", "table", "all"}},
	{"host/rules.txt", []string{"ip", "rule"}},
	{"host/sockets.txt", []string{"ss", "-s"}},
	{"host/firewall.txt", []string{"nft", "list", "ruleset"}},
	{"host/sysctl.txt", []string{"sysctl", "net.ipv4.ip_forward", "net.ipv4.conf", "net.ipv6.conf.all", "net.ipv4.tcp_available_congestion_control"}},
	{"log.txt", []string{"journalctl", "--no-pager", "-n", "5000", "-u", "gw"}},
}

// Run writes what can be had; what can't says why in its place.
func (c *bundleCmd) Run(env *env) error {
	f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the bundle: %w; choose another file with -o", err)
	}
	b := newBundle(f, time.Now())
	c.collect(env, b)
	err = errors.Join(b.close(), f.Close())
	if err != nil {
		return fmt.Errorf("write the bundle %s: %w; see the space on its disk", c.Output, err)
	}
	_, err = fmt.Fprintf(env.stdout, "written: %s\n", c.Output)
	return err
}

func (c *bundleCmd) collect(env *env, b *bundle) {
	b.text("version.txt", versionText()+"\n")
	files := c.Config
	report, err := c.examine(env)
	b.json("doctor.json", report, err)
	if err == nil {
		b.text("doctor.txt", doctorText(report, false))
	}
	if path, err := c.resolve(); err != nil {
		b.text("status.json", err.Error()+"\n")
	} else {
		ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
		defer cancel()
		client := control.NewClient(path)
		s, err := client.Status(ctx)
		b.json("status.json", s, err)
		if err == nil {
			b.text("status.txt", statusText(s, false))
			if len(files) == 0 {
				files = s.ConfigFiles
			}
		}
		conns, err := client.Conns(ctx, status.Query{})
		b.json("conns.json", conns, err)
		if s.HA != nil {
			h, err := client.HA(ctx)
			b.json("ha.json", h, err)
		}
	}
	if cfg, _ := configs.Load(files, configs.Options{Key: configs.KeyOptional}); len(cfg.Files) > 0 {
		files = cfg.Files // of a directory
	}
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			text = []byte(err.Error() + "\n")
		}
		b.text(fmt.Sprintf("config/%d-%s", i, baseName(name)), string(text))
	}
	for _, h := range hostFacts {
		b.text(h.name, commandText(env.ctx, h.args))
	}
}

func baseName(path string) string { return regexp.MustCompile(`[^/]*$`).FindString(path) }

func commandText(ctx context.Context, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s\n%v: %v\n", out, args, err)
	}
	return string(out)
}

// bundle is a tar.gz in the making. Every text passes redact. It keeps its first error.
type bundle struct {
	zip *gzip.Writer
	tar *tar.Writer
	now time.Time
	err error
}

func newBundle(w io.Writer, now time.Time) *bundle {
	z := gzip.NewWriter(w)
	return &bundle{zip: z, tar: tar.NewWriter(z), now: now}
}

func (b *bundle) text(name, text string) {
	if b.err != nil {
		return
	}
	clean := redact([]byte(text))
	b.err = b.tar.WriteHeader(&tar.Header{Name: "gw-bundle/" + name, Mode: 0o600, Size: int64(len(clean)), ModTime: b.now})
	if b.err == nil {
		_, b.err = b.tar.Write(clean)
	}
}

func (b *bundle) json(name string, v any, err error) {
	var out bytes.Buffer
	if err == nil {
		enc := json.NewEncoder(&out)
		enc.SetIndent("", "  ")
		err = enc.Encode(v)
	}
	if err != nil {
		out.Reset()
		fmt.Fprintln(&out, err)
	}
	b.text(name, out.String())
}

func (b *bundle) close() error {
	for _, end := range []func() error{b.tar.Close, b.zip.Close} {
		if err := end(); b.err == nil {
			b.err = err
		}
	}
	return b.err
}

var (
	// A key of 32 bytes in base64, as WireGuard writes it, or in hexadecimal. JSON may write + and / as they are.
	keys = regexp.MustCompile(`[A-Za-z0-9+/_-]{43}=?|[0-9a-fA-F]{64}`)
	// What an operator's own commands and settings may give away.
	secrets = regexp.MustCompile(`(?im)^(\s*(?:on_active|on_standby|[a-z_]*(?:secret|password|token)[a-z_]*)\s*=\s*)(?:\[[^\]]*\].*|.*)$`)
)

// redact replaces keys, public ones too, by fingerprints that still tell equal from different, and secrets altogether.
func redact(text []byte) []byte {
	text = secrets.ReplaceAll(text, []byte(`${1}"redacted"`))
	return keys.ReplaceAllFunc(text, func(k []byte) []byte {
		sum := sha256.Sum256(bytes.TrimRight(k, "="))
		return fmt.Appendf(nil, "key-%x", sum[:4])
	})
}
