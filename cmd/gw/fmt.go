package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/safefile"
)

type fmtCmd struct {
	Check bool     `help:"Change nothing; list the files that would change, and exit with 1 if there are any."`
	Diff  bool     `help:"Change nothing; print what would change."`
	Files []string `arg:"" name:"file" sep:"none" complete:"file" help:"Configuration files."`
}

// Run formats each file in place, or tells what it would change. A file that
// can't be parsed doesn't keep the others from being formatted.
func (c *fmtCmd) Run(env *env) error {
	var errs []error
	differ := false
	for _, file := range c.Files {
		changed, err := c.one(env, file)
		differ = differ || changed
		if err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case len(errs) > 0:
		return errors.Join(errs...)
	case c.Check && differ:
		return errSilent
	}
	return nil
}

// one handles one file, and tells whether it isn't formatted.
func (c *fmtCmd) one(env *env, file string) (bool, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("format: %w; name configuration files", err)
	}
	out, err := configs.Format(file, src)
	var broken *configs.Error
	if errors.As(err, &broken) {
		return false, showFindings(env, broken.Diagnostics)
	}
	if err != nil {
		return false, fmt.Errorf("format %s: %w", file, err)
	}
	if bytes.Equal(src, out) {
		return false, nil
	}
	switch {
	case c.Diff:
		err = write(env.stdout, unifiedDiff(file, src, out))
	case c.Check:
		err = write(env.stdout, file+"\n")
	default:
		err = replaceFile(file, out)
	}
	return true, err
}

// replaceFile puts new text into a file at once, so that no reader sees half of it. It keeps the
// file's mode, and a symbolic link, but rewrites no file of another user.
func replaceFile(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := safefile.Replace(path, info.Mode().Perm())
	if err != nil {
		return fmt.Errorf("rewrite: %w; or run gw fmt as its owner", err)
	}
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("rewrite %s: %w; see the space on its disk", path, errors.Join(err, f.Discard()))
	}
	if err := f.Commit(); err != nil {
		return fmt.Errorf("rewrite %s: %w; see the permissions of its directory", path, err)
	}
	return nil
}
