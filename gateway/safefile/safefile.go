// Package safefile opens files for writing in directories where others may write, too. What
// another user has put at the path is never written to: no symbolic link is followed, no file that
// belongs to another user is reused, no FIFO or device is opened. The errors tell what to do.
package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrExists is wrapped by the error of Create for a path at which there is something.
var ErrExists = errors.New("there already")

// Create makes a file that must not be there yet, not even as a symbolic link that leads nowhere.
func Create(path string, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is %w and is left as it is", path, ErrExists)
	}
	return f, err
}

// Append opens a file to append to, and makes it with the mode if it is not there. One that is
// there must be regular and belong to the caller or to root.
func Append(path string, mode fs.FileMode) (*os.File, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a reader.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	if err != nil {
		if info, statErr := os.Lstat(path); statErr == nil && !info.Mode().IsRegular() {
			return nil, irregular(path, info)
		}
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = irregular(path, info)
	default:
		err = owned(path, info, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Replacement is a file in the making, which takes the place of the one at its path, if there is
// one, on Commit.
type Replacement struct {
	*os.File
	path string
	temp string // "" where the file itself is being written, since there was none
}

// Replace begins to write a file with the mode. At the path there may be nothing, in which case the
// file is made there at once, or a regular file that belongs to the caller, which stays as it is
// until Commit.
func Replace(path string, mode fs.FileMode) (*Replacement, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f, err := Create(path, mode)
		return &Replacement{File: f, path: path}, err
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, irregular(path, info)
	}
	if err := owned(path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	r := &Replacement{File: f, path: path, temp: f.Name()}
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(err, r.Discard())
	}
	return r, nil
}

// Commit closes the file and puts it in its place.
func (r *Replacement) Commit() error {
	err := r.Close()
	if r.temp == "" {
		return err
	}
	if err == nil {
		err = os.Rename(r.temp, r.path)
	}
	if err != nil {
		os.Remove(r.temp) // the error to report is the one before
	}
	return err
}

// Discard closes the file and removes it. What was at the path before stays.
func (r *Replacement) Discard() error {
	name := r.temp
	if name == "" {
		name = r.path
	}
	return errors.Join(r.Close(), os.Remove(name))
}

// owned refuses a file that belongs neither to the caller nor to the user with the id also.
func owned(path string, info fs.FileInfo, also int) error {
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid == os.Geteuid() || uid == also {
		return nil
	}
	return fmt.Errorf("%s belongs to another user (uid %d), who could read and change what is written; remove it first, or: chown %d %[1]s", path, uid, os.Geteuid())
}

// irregular refuses what is no regular file.
func irregular(path string, info fs.FileInfo) error {
	switch info.Mode().Type() {
	case fs.ModeDir:
		return fmt.Errorf("%s is a directory; name a file in it", path)
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		if err != nil {
			to = "its target"
		}
		return fmt.Errorf("%s is a symbolic link; name %s itself", path, strings.ToValidUTF8(to, "?"))
	}
	return fmt.Errorf("%s is no regular file; let the shell open it: > %[1]s", path)
}
