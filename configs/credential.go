package configs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// credentialID is the ID of LoadCredential= in gw.service. systemd loads each file of /etc/gw as
// credentialID_NAME, with a "_" for each "/" in NAME.
const credentialID = "gw"

// keyUnreadable is what to do about a key that this process may not read.
const keyUnreadable = "Only root may read it. The service gets a copy from systemd when the key is in /etc/gw (LoadCredential= in gw.service) and not a symbolic link; " +
	"restart it after a new key. By hand, run gw as root."

// readKeyOrCopy reads a private key from path, or, where this process has no permission to, from
// the copy among the credentials.
func (b *builder) readKeyOrCopy(path string, opt Options) (PrivateKey, error) {
	if inDir(path, opt.Credentials) {
		return readCredential(path)
	}
	key, err := readPrivately(path, 0o077)
	if !errors.Is(err, fs.ErrPermission) || opt.Credentials == "" {
		return key, err
	}
	for _, file := range b.cfg.Files {
		rel, relErr := filepath.Rel(filepath.Dir(file), path)
		if relErr != nil || !filepath.IsLocal(rel) {
			continue
		}
		name := credentialID + "_" + strings.ReplaceAll(rel, "/", "_")
		if copied, copyErr := readCredential(filepath.Join(opt.Credentials, name)); usable(copyErr) {
			return copied, copyErr
		}
	}
	return key, err
}

// readCredential reads a private key that systemd has put where root and the service's user alone
// may look. Its mode is 0400, or 0440 where an access control list lets the user read: the
// group's bits then hold the list's mask (acl(5)). It belongs to root or, without access control
// lists, to that user.
func readCredential(path string) (PrivateKey, error) { return readPrivately(path, 0o037) }

// usable reports whether a key was read in spite of err.
func usable(err error) bool {
	var owner *keyOwnerError
	return err == nil || errors.As(err, &owner)
}

// inDir reports whether path is a file in dir.
func inDir(path, dir string) bool { return dir != "" && filepath.Dir(path) == filepath.Clean(dir) }
