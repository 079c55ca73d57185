// Command sbom describes a Go binary for those who ship it: which modules are in it, in CycloneDX
// JSON, and the texts of their licenses, in one file.
//
// Both files depend on nothing but the binary and its modules, so that the same source gives the
// same bytes. A module without a license that this program knows, or with one that is not allowed
// beside Apache-2.0, is an error.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the Go `file` to describe")
	flag.StringVar(&o.source, "source", ".", "the `directory` of the binary's main module")
	flag.StringVar(&o.version, "version", "", "the binary's `version`")
	flag.StringVar(&o.sbom, "sbom", "", "`file` to write CycloneDX JSON to")
	flag.StringVar(&o.notices, "notices", "", "`file` to write the licenses to")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type options struct{ binary, source, version, sbom, notices string }

func run(o options) error {
	if o.binary == "" || o.version == "" || o.sbom == "" || o.notices == "" {
		return errors.New("all of -binary, -version, -sbom and -notices are needed")
	}
	info, err := buildinfo.ReadFile(o.binary)
	if err != nil {
		return fmt.Errorf("%w; build it with go build", err)
	}
	binary, err := os.ReadFile(o.binary)
	if err != nil {
		return err
	}
	modules, err := included(info, o.source)
	if err != nil {
		return err
	}
	graph, err := goCommand(o.source, "mod", "graph")
	if err != nil {
		return err
	}
	bom, err := json.MarshalIndent(describe(info, o.version, binary, modules, string(graph)), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.sbom, append(bom, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(o.notices, notices(modules), 0o644)
}

// goCommand runs the go command in a directory and returns what it prints.
func goCommand(dir string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
