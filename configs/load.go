package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// KeyPolicy says whether Load looks for this node's private key.
type KeyPolicy int

// The key policies. A running gateway needs its key; a file may be checked or
// rendered on a machine that has none.
const (
	KeyRequired KeyPolicy = iota // an error without a key that belongs to a node, or if other users can change files
	KeyOptional                  // checked when there is one
	KeyIgnored                   // not looked for
)

// Options are what the command line adds to the files.
type Options struct {
	KeyFile string    // overrides local.private_key_file; "" doesn't
	Key     KeyPolicy // the zero value requires a key
	// Node says which node this is; no key is looked for then. "" leaves it to the key.
	Node string
	// Credentials is the directory in which the service manager has put copies of the files of
	// /etc/gw for this process ($CREDENTIALS_DIRECTORY, systemd.exec(5)). A key that is there goes
	// before the one beside the configuration, which a service user can't read. "" stands for none.
	Credentials string
}

// Load reads the configuration from paths, each a file or a directory whose
// *.hcl files are read in the order of their names. Blocks of all files add up.
//
// All mistakes are reported at once. The Config may be used when
// Diagnostics.HasErrors is false, even if there are warnings.
func Load(paths []string, opt Options) (Config, Diagnostics) {
	c := newCollector()
	var sources []source
	if len(paths) == 0 {
		c.errorAt(nowhere, "Name a file or a directory: -c /etc/gw.", "no configuration file given")
	}
	seen := map[string]bool{}
	for _, path := range paths {
		for _, file := range c.expand(path) {
			if id, err := filepath.Abs(file); err == nil {
				if seen[id] {
					continue
				}
				seen[id] = true
			}
			src, err := readSome(file)
			if err != nil {
				todo := "Check the path and its permissions."
				if errors.Is(err, fs.ErrPermission) {
					todo = fmt.Sprintf("The service runs as user gw, who must be able to read it: chgrp gw %[1]s; chmod 640 %[1]s", file)
				}
				c.errorAt(nowhere, todo, "read configuration: %v", err)
				continue
			}
			c.examine(opt.exposure(), nowhere, file) // an error ends load before the text has any effect
			sources = append(sources, source{name: file, text: src})
		}
	}
	cfg := c.load(sources, opt)
	return cfg, c.result()
}

// File is the text of a file, and its name, which paths in it are relative to.
type File struct {
	Name string
	Text []byte
}

// LoadFiles is Load for files that have been read.
func LoadFiles(files []File, opt Options) (Config, Diagnostics) {
	c := newCollector()
	var sources []source
	for _, f := range files {
		sources = append(sources, source{name: f.Name, text: f.Text})
	}
	cfg := c.load(sources, opt)
	return cfg, c.result()
}

// readSome reads a file as far as one byte beyond the limit, which parse then
// reports.
func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}

// source is one file's text.
type source struct {
	name string
	text []byte
}

// expand returns the files that a path stands for.
func (c *collector) expand(path string) []string {
	info, err := os.Stat(path)
	if err != nil {
		c.errorAt(nowhere, "Check the path; `gw init --dir DIR` writes a first configuration.", "read configuration: %v", err)
		return nil
	}
	if !info.IsDir() {
		return []string{path}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		c.errorAt(nowhere, "Check its permissions.", "read configuration: %v", err)
		return nil
	}
	var files []string
	for _, e := range entries {
		// Editors leave their locks and copies under names that begin with a dot.
		if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(path, name))
		}
	}
	if len(files) == 0 {
		c.errorAt(nowhere, "Put the configuration there, or name the file itself.", "there is no *.hcl file in %s", path)
	}
	slices.Sort(files)
	return files
}

// load turns texts into a configuration. Mistakes of syntax end it before the
// checks of meaning, which would only repeat them in other words.
func (c *collector) load(sources []source, opt Options) Config {
	d := &decoder{collector: c}
	var bodies []*hclsyntax.Body
	var cfg Config
	for _, s := range sources {
		c.addSource(s.name, s.text)
		cfg.Files = append(cfg.Files, s.name)
		if body := d.parse(s.name, s.text); body != nil {
			bodies = append(bodies, body)
		}
	}
	if c.hasErrors() {
		return cfg
	}
	raw := d.readFiles(bodies)
	b := &builder{collector: c, raw: raw, cfg: &cfg}
	b.sites()
	b.links()
	b.rules()
	b.local(opt)
	b.examinePrograms()
	b.whole()
	return cfg
}
