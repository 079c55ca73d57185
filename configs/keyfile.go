package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/hcl/v2"
)

// ReadKeyFile reads a private key. It refuses a file that its group or others can read or write,
// and a file of another user than root or this process's: who has the key is the node.
func ReadKeyFile(path string) (PrivateKey, error) {
	key, err := readPrivately(path, 0o077)
	if err != nil {
		return PrivateKey{}, err
	}
	return key, nil
}

// readPrivately reads a private key from a file whose mode has none of the bits in forbidden. With
// a *keyOwnerError, the key is valid.
func readPrivately(path string, forbidden fs.FileMode) (PrivateKey, error) {
	key, mode, uid, err := readKey(path)
	switch {
	case err != nil:
		return PrivateKey{}, err
	case mode&forbidden != 0:
		return PrivateKey{}, &keyModeError{path: path, mode: mode}
	case !trusted(uid):
		return key, &keyOwnerError{path: path, uid: uid}
	}
	return key, nil
}

// keyOwnerError reports a key file of another user, who can read and replace the key.
type keyOwnerError struct {
	path string
	uid  uint32
}

func (e *keyOwnerError) Error() string {
	return fmt.Sprintf("%s belongs to %s, who can read and replace the key", e.path, userName(e.uid))
}

// mend returns the command after which the file belongs to root.
func (e *keyOwnerError) mend() string { return "Run as root: chown root " + shellWord(e.path) }

// keyModeError refuses a key file that others may read.
type keyModeError struct {
	path string
	mode fs.FileMode
}

func (e *keyModeError) Error() string {
	return fmt.Sprintf("%s has mode %04o: others than its owner may read the key", e.path, e.mode)
}

// readKey reads a private key, and the permissions and the owner of the file that it opened.
func readKey(path string) (key PrivateKey, mode fs.FileMode, uid uint32, err error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return PrivateKey{}, 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return PrivateKey{}, 0, 0, err
	}
	if !info.Mode().IsRegular() {
		return PrivateKey{}, 0, 0, fmt.Errorf("%s is not a regular file", path)
	}
	var buf [256]byte // a key is 44 characters and a newline
	n, err := f.Read(buf[:])
	if err != nil && n == 0 {
		return PrivateKey{}, 0, 0, fmt.Errorf("%s is empty or can't be read: %w", path, err)
	}
	k, err := ParsePrivateKey(string(buf[:n]))
	if err != nil {
		return PrivateKey{}, 0, 0, fmt.Errorf("%s holds no private key: %w", path, err)
	}
	return k, info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid, nil
}

// findKey reads this node's private key and finds the node that it belongs to.
func (b *builder) findKey(opt Options) {
	if opt.Node != "" {
		b.nameSelf(opt.Node)
		return
	}
	if opt.Key == KeyIgnored {
		return
	}
	path, rng := opt.KeyFile, nowhere
	if t := b.raw.local.texts["private_key_file"]; path == "" && t != nil {
		if !b.notEmpty(*t, "private_key_file") {
			return
		}
		path, rng = relativeTo(t.at.Filename, t.s), t.at
	}
	if path == "" {
		if path = b.keyBeside(opt); path == "" {
			return
		}
	}
	key, err := b.readKeyOrCopy(path, opt)
	var mode *keyModeError
	var owner *keyOwnerError
	switch {
	case err == nil:
	case errors.As(err, &owner):
		b.add(opt.exposure(), rng, owner.mend(), owner.Error())
		if abs, err := filepath.Abs(owner.path); err == nil {
			b.paths.seen[abs] = true // its owner has been reported
		}
	case errors.As(err, &mode):
		b.errorAt(rng, "Run: chmod 600 "+shellWord(path), "%v", err)
		return
	case errors.Is(err, fs.ErrPermission):
		b.errorAt(rng, keyUnreadable, "private key: %v", err)
		return
	case errors.Is(err, fs.ErrNotExist) && opt.Key == KeyOptional && opt.KeyFile == "":
		b.warnAt(rng, "It has to be there when the gateway starts.", "the private key %s is not on this machine", path)
		return
	default:
		b.errorAt(rng, "Make a key with `gw genkey > FILE` (umask 077), or name the right file with --key.", "private key: %v", err)
		return
	}
	b.examine(opt.exposure(), rng, path)
	b.recognise(key, path, rng)
}

// nameSelf sets which node this is by its name.
func (b *builder) nameSelf(name string) {
	if t := b.raw.local.texts["private_key_file"]; t != nil {
		b.cfg.Local.PrivateKeyFile = relativeTo(t.at.Filename, t.s)
	}
	for i, s := range b.cfg.Sites {
		for j, n := range s.Nodes {
			if n.Name == name {
				b.cfg.Self = Self{Known: true, Site: i, Node: j}
				return
			}
		}
	}
	if !b.hasErrors() {
		b.errorAt(nowhere, "Put the node back, or stop its gateway.", "there is no node %q any more, and it runs", name)
	}
}

// recognise sets which node this is.
func (b *builder) recognise(key PrivateKey, path string, rng hcl.Range) {
	pub := key.Public()
	for i, s := range b.cfg.Sites {
		for j, n := range s.Nodes {
			if n.PublicKey == pub {
				b.cfg.Self = Self{Known: true, Site: i, Node: j}
				b.cfg.Local.PrivateKey, b.cfg.Local.PrivateKeyFile = key, path
				return
			}
		}
	}
	if leaked, ok := b.keyAt[Key(key)]; ok {
		b.errorAt(leaked, fmt.Sprintf("Make a new key with `gw genkey`, and write what `gw pubkey` prints: %q belongs to this one.", pub), "this is the private key of %s, not its public key", path)
		return
	}
	if b.hasErrors() {
		return // a node left out for another mistake may be the one
	}
	b.errorAt(rng, fmt.Sprintf("Its public key is %s. Write it as the public_key of this machine's node, or name another file with --key.", pub), "the private key in %s belongs to no node", path)
}

// keyBeside finds the one *.key file that belongs to a node: among the credentials, or else
// beside the configuration.
func (b *builder) keyBeside(opt Options) string {
	var found keySearch
	if opt.Credentials != "" {
		b.searchKeys(opt.Credentials, &found)
	}
	if len(found.match) == 0 {
		found = keySearch{}
		dirs := map[string]bool{}
		for _, file := range b.cfg.Files {
			if dir := filepath.Dir(file); !dirs[dir] {
				dirs[dir] = true
				b.searchKeys(dir, &found)
			}
		}
	}
	seen, match := found.seen, found.match
	slices.Sort(seen)
	slices.Sort(match)
	switch {
	case len(match) == 1:
		return match[0]
	case len(match) > 1:
		if opt.Key == KeyRequired {
			b.errorAt(nowhere, "Name this machine's with --key, or set private_key_file in the local block. A machine should hold its own key only.",
				"several private keys belong to nodes: %s", strings.Join(match, ", "))
		}
	case b.hasErrors():
	case len(found.unreadable) > 0 && opt.Key == KeyRequired:
		b.errorAt(nowhere, keyUnreadable, "private key: no permission to read %s", strings.Join(found.unreadable, ", "))
	case len(found.unreadable) > 0: // one of them may be the node's
	case len(seen) > 0: // also where a key is optional: it is here, and the wrong one
		b.errorAt(nowhere, "Name this machine's key with --key, or write its public key (`gw pubkey`) into the configuration.",
			"no private key here belongs to a node: %s", strings.Join(seen, ", "))
	case opt.Key == KeyRequired:
		b.errorAt(nowhere, "Name it with --key, set private_key_file in the local block, or put it beside the configuration as NAME.key.",
			"no private key: there is no *.key file beside the configuration")
	}
	return ""
}

// keySearch is what a search for *.key files has found.
type keySearch struct {
	seen       []string // all
	match      []string // those that belong to a node
	unreadable []string // those that this process has no permission to read
}

// searchKeys adds the *.key files of a directory. Their modes are judged later, when one has
// been chosen. A directory that can't be listed has none: its configuration was read by name.
func (b *builder) searchKeys(dir string, found *keySearch) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".key") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		found.seen = append(found.seen, path)
		key, _, _, err := readKey(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			found.unreadable = append(found.unreadable, path)
		case err == nil:
			if _, ok := b.keyAt[key.Public()]; ok {
				found.match = append(found.match, path)
			}
		}
	}
}
