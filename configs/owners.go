package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/sys/unix"
)

// A gateway obeys its configuration, so only root and the gateway's own user may be able to change
// it. Load follows the path of each file and of the key, through every directory and symbolic
// link, as sshd(8) does with StrictModes. A component is safe if
//
//   - its owner is root or the user of this process, and
//   - no other user can write to it. Its group may be able to if that is root's group (gid 0) and
//     there is no access control list. A directory with the sticky bit, as /tmp has it, is safe
//     for that: users can't replace each other's files there.
//
// Where the gateway starts or reloads (KeyRequired), an unsafe component is an error, and nothing
// in the files takes effect. For other commands it is a warning.

// fileUser returns the user whose rights this process has on files. A test that acts as another
// user replaces it.
var fileUser = os.Geteuid

// trusted reports whether a file of the user uid may be obeyed.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == fileUser() }

// exposure is a component of a path that another user can change.
type exposure struct {
	summary string // which file is concerned, and who can change it
	mend    string // the commands that mend it
}

// pathCheck examines paths, and each of their components once.
type pathCheck struct {
	seen map[string]bool
}

// maxLinks is the number of symbolic links in a path that Linux follows (path_resolution(7)).
const maxLinks = 40

// examine returns the unsafe components of the path to a file. It resolves the path as the kernel
// does: ".." after a symbolic link is the parent of the link's target.
func (p *pathCheck) examine(file string) ([]exposure, error) {
	path := file
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		path = dir + "/" + path
	}
	var found []exposure
	at, rest, links := "/", append([]string{"."}, strings.Split(path, "/")...), 0
	for i := 0; len(rest) > 0; i++ {
		name := rest[0]
		rest = rest[1:]
		switch {
		case name == "..":
			at = filepath.Dir(at)
			continue
		case i > 0 && (name == "" || name == "."):
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return found, err
		}
		if !p.seen[next] {
			p.seen[next] = true
			if e, unsafe := examineOne(file, next, next == filepath.Clean(path), info); unsafe {
				found = append(found, e)
			}
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if strings.HasPrefix(at, "/proc/") && filepath.Base(at) == "fd" {
			return found, nil // a file that is open already, as for -c <(command)
		}
		if links++; links > maxLinks {
			return found, &fs.PathError{Op: "follow", Path: file, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(next)
		if err != nil {
			return found, err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, nil
}

// examineOne reports whether another user can change path, a component of the path to file. With
// named, it is what file names, and not the target of a link there.
func examineOne(file, path string, named bool, info fs.FileInfo) (exposure, bool) {
	st := info.Sys().(*syscall.Stat_t)
	link := info.Mode()&fs.ModeSymlink != 0
	var who, mend []string
	if !trusted(st.Uid) {
		who = append(who, userName(st.Uid)+", its owner")
		mend = append(mend, "chown -h root "+shellWord(path))
	}
	// A link's own mode means nothing.
	if mode := info.Mode(); !link && !(mode.IsDir() && mode&fs.ModeSticky != 0) {
		var classes string
		if mode&0o020 != 0 && (st.Gid != 0 || hasACL(path)) {
			who = append(who, groupName(st.Gid))
			classes = "g"
		}
		if mode&0o002 != 0 {
			who = append(who, "every user")
			classes += "o"
		}
		if classes != "" {
			mend = append(mend, "chmod "+classes+"-w "+shellWord(path))
		}
	}
	if len(who) == 0 {
		return exposure{}, false
	}
	e := exposure{mend: "Run as root: " + strings.Join(mend, "; ")}
	switch by := strings.Join(who, "; "); {
	case link:
		e.summary = fmt.Sprintf("%s can be replaced through the symbolic link %s by %s", file, path, by)
	case info.IsDir():
		e.summary = fmt.Sprintf("%s can be replaced in the directory %s (mode %s) by %s", file, path, octal(info.Mode()), by)
	case named:
		e.summary = fmt.Sprintf("%s (mode %s) can be changed by %s", file, octal(info.Mode()), by)
	default:
		e.summary = fmt.Sprintf("%s, which is %s (mode %s), can be changed by %s", file, path, octal(info.Mode()), by)
	}
	return e, true
}

// hasACL reports whether a file has an access control list. The group's bits of its mode then hold
// the most that the list grants to anybody (acl(5)).
func hasACL(path string) bool {
	_, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username
	}
	return "user " + id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return "group " + g.Name
	}
	return "group " + id
}

// shellWord quotes a path for a shell where it needs that.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,@:", r)
	}
	if strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// exposure is the severity of a file that another user can change.
func (o Options) exposure() Severity {
	if o.Key == KeyRequired {
		return SeverityError
	}
	return SeverityWarning
}

// examine records the unsafe components of the path to a file, which rng names.
func (c *collector) examine(s Severity, rng hcl.Range, file string) {
	found, err := c.paths.examine(file)
	for _, e := range found {
		c.add(s, rng, e.mend, e.summary)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.add(s, rng, "Check the permissions of its directories.",
			fmt.Sprintf("%s: cannot find out who can change it: %v", file, err))
	}
}

// examinePrograms warns of the pair's programs on this machine that another user can change. It is
// no error: many hosts let a group of administrators write to /usr/local/bin.
func (b *builder) examinePrograms() {
	if !b.cfg.Self.Known {
		return
	}
	pair := b.built[b.cfg.Self.Site].pair
	if pair == nil {
		return
	}
	for _, command := range [][]text{pair.onActive, pair.onStandby} {
		if len(command) > 0 && filepath.IsAbs(command[0].s) {
			b.examine(SeverityWarning, command[0].at, command[0].s)
		}
	}
}
