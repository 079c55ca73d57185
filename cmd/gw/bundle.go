package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
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
	"github.com/onewaylink/gw/gateway/safefile"
	"github.com/onewaylink/gw/gateway/status"
)

// commandTime bounds each program that tells of the host.
const commandTime = 10 * time.Second

type bundleCmd struct {
	doctorFlags
	Output string `short:"o" default:"gw-bundle.tar.gz" placeholder:"FILE" complete:"file" help:"File to write; an existing file is not overwritten."`
}

// Help is shown by kong below the command.
func (bundleCmd) Help() string {
	return "Packs status, connections, the pair, doctor's findings, the configuration, facts of the host and the recent log, for somebody elsewhere to " +
		"look at. Keys are replaced by fingerprints everywhere. Of the configuration only settings that gw knows are in it: no comments, no commands of a pair, " +
		"and no file that does not parse. What these commands hold is replaced in the other files, too. Addresses, names and paths stay."
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
	f, err := safefile.Create(c.Output, 0o600)
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

// collect packs all parts. The configuration comes first, since its secrets are removed from the
// rest.
func (c *bundleCmd) collect(env *env, b *bundle) {
	b.text("version.txt", versionText()+"\n")
	path, pathErr := c.resolve()
	ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
	defer cancel()
	client := control.NewClient(path)
	var s status.Status
	err := pathErr
	if err == nil {
		s, err = client.Status(ctx)
	}
	files := c.Config
	if err == nil && len(files) == 0 {
		files = s.ConfigFiles
	}
	b.config(files)

	b.json("status.json", s, err)
	if err == nil {
		b.text("status.txt", statusText(s, false))
	}
	if pathErr == nil {
		conns, err := client.Conns(ctx, status.Query{})
		b.json("conns.json", conns, err)
		if s.HA != nil {
			h, err := client.HA(ctx)
			b.json("ha.json", h, err)
		}
	}
	report, err := c.examine(env)
	if errors.As(err, new(*configs.Error)) {
		err = errors.New("the configuration has mistakes; see gw validate") // the error quotes the file
	}
	b.json("doctor.json", report, err)
	if err == nil {
		b.text("doctor.txt", doctorText(report, false))
	}
	for _, h := range hostFacts {
		b.text(h.name, commandText(env.ctx, h.args))
	}
}

// config packs the configuration, redacted, and learns what must not be anywhere else.
func (b *bundle) config(files []string) {
	if cfg, _ := configs.Load(files, configs.Options{Key: configs.KeyOptional}); len(cfg.Files) > 0 {
		files = cfg.Files // of a directory
	}
	texts := make([][]byte, len(files))
	for i, name := range files {
		src, err := os.ReadFile(name)
		var secrets []string
		if err == nil {
			texts[i], secrets, err = configs.Redact(name, src)
			b.scrubber.learn(secrets)
		}
		if err != nil {
			texts[i] = []byte("left out: " + err.Error() + "\n")
		}
	}
	for i, name := range files {
		b.text(fmt.Sprintf("config/%d-%s", i, baseName(name)), string(texts[i]))
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

// bundle is a tar.gz in the making. Every text passes the scrubber. It keeps its first error.
type bundle struct {
	scrubber scrubber
	zip      *gzip.Writer
	tar      *tar.Writer
	now      time.Time
	err      error
}

func newBundle(w io.Writer, now time.Time) *bundle {
	z := gzip.NewWriter(w)
	return &bundle{zip: z, tar: tar.NewWriter(z), now: now}
}

func (b *bundle) text(name, text string) {
	if b.err != nil {
		return
	}
	clean := b.scrubber.scrub(name, text)
	b.err = b.tar.WriteHeader(&tar.Header{Name: "gw-bundle/" + name, Mode: 0o600, Size: int64(len(clean)), ModTime: b.now})
	if b.err == nil {
		_, b.err = io.WriteString(b.tar, clean)
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
