package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestMain makes what tests write safe from the group, whatever the umask of who runs them.
func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// stranger is a user and a group that no machine has by name.
const stranger = 54321

// TestOwners loads a configuration and a key from places that other users can and can't change.
// The gateway refuses the ones that they can; other commands warn.
func TestOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: the cases of other users' files are left out")
	}
	text, keys, err := Starter(starterOptions())
	if err != nil {
		t.Fatal(err)
	}
	give := func(t *testing.T, path string, uid, gid int) {
		t.Helper()
		if err := os.Lchown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	chmod := func(t *testing.T, path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	move := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	link := func(t *testing.T, target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	said := &listing{}
	cases := []struct {
		name   string
		root   bool // only root can make it
		user   int  // of the process, if not who runs the test
		change func(t *testing.T)
		want   []string // findings, each with the command that mends it
	}{
		{name: "own files", change: func(*testing.T) {}},
		{name: "configuration of another user", root: true,
			change: func(t *testing.T) { give(t, "etc/site.hcl", stranger, 0) },
			want:   []string{"etc/site.hcl (mode 0644) can be changed by user 54321, its owner | Run as root: chown -h root DIR/etc/site.hcl"}},
		{name: "configuration of the gateway's user", root: true, user: stranger,
			change: func(t *testing.T) { give(t, "etc/site.hcl", stranger, stranger) }},
		{name: "configuration that every user can write to",
			change: func(t *testing.T) { chmod(t, "etc/site.hcl", 0o646) },
			want:   []string{"etc/site.hcl (mode 0646) can be changed by every user | Run as root: chmod o-w DIR/etc/site.hcl"}},
		{name: "configuration that a group can write to", root: true,
			change: func(t *testing.T) { give(t, "etc/site.hcl", 0, stranger); chmod(t, "etc/site.hcl", 0o664) },
			want:   []string{"etc/site.hcl (mode 0664) can be changed by group 54321 | Run as root: chmod g-w DIR/etc/site.hcl"}},
		{name: "configuration that root's group can write to", root: true,
			change: func(t *testing.T) { chmod(t, "etc/site.hcl", 0o664) }},
		{name: "configuration that a group can read", root: true,
			change: func(t *testing.T) { give(t, "etc/site.hcl", 0, stranger); chmod(t, "etc/site.hcl", 0o640) }},
		{name: "configuration of another user, whom its group and every user can help", root: true,
			change: func(t *testing.T) { give(t, "etc/site.hcl", stranger, stranger); chmod(t, "etc/site.hcl", 0o666) },
			want: []string{"etc/site.hcl (mode 0666) can be changed by user 54321, its owner; group 54321; every user" +
				" | Run as root: chown -h root DIR/etc/site.hcl; chmod go-w DIR/etc/site.hcl"}},
		{name: "directory that every user can write to",
			change: func(t *testing.T) { chmod(t, "etc", 0o757) },
			want: []string{"etc/site.hcl can be replaced in the directory DIR/etc (mode 0757) by every user" +
				" | Run as root: chmod o-w DIR/etc"}},
		{name: "directory above that every user can write to",
			change: func(t *testing.T) { chmod(t, ".", 0o757) },
			want: []string{"etc/site.hcl can be replaced in the directory DIR (mode 0757) by every user" +
				" | Run as root: chmod o-w DIR"}},
		{name: "directory with the sticky bit", change: func(t *testing.T) { chmod(t, "etc", 0o777|os.ModeSticky) }},
		{name: "another user's configuration in a directory with the sticky bit", root: true,
			change: func(t *testing.T) {
				chmod(t, "etc", 0o777|os.ModeSticky)
				if err := os.WriteFile("etc/x.hcl", nil, 0o644); err != nil {
					t.Fatal(err)
				}
				give(t, "etc/x.hcl", stranger, stranger)
			},
			want: []string{"etc/x.hcl (mode 0644) can be changed by user 54321, its owner | Run as root: chown -h root DIR/etc/x.hcl"}},
		{name: "directory of another user, with the sticky bit", root: true,
			change: func(t *testing.T) { chmod(t, "etc", 0o755|os.ModeSticky); give(t, "etc", stranger, 0) },
			want: []string{"etc/site.hcl can be replaced in the directory DIR/etc (mode 0755) by user 54321, its owner" +
				" | Run as root: chown -h root DIR/etc"}},
		{name: "directory that a group can write to", root: true,
			change: func(t *testing.T) { give(t, "etc", 0, stranger); chmod(t, "etc", 0o775) },
			want: []string{"etc/site.hcl can be replaced in the directory DIR/etc (mode 0775) by group 54321" +
				" | Run as root: chmod g-w DIR/etc"}},
		{name: "symbolic link to a safe file", change: func(t *testing.T) { move(t, "etc/site.hcl", "far/site"); link(t, "../far/site", "etc/site.hcl") }},
		{name: "symbolic link of another user", root: true,
			change: func(t *testing.T) {
				move(t, "etc/site.hcl", "far/site")
				link(t, "../far/site", "etc/site.hcl")
				give(t, "etc/site.hcl", stranger, 0)
			},
			want: []string{"etc/site.hcl can be replaced through the symbolic link DIR/etc/site.hcl by user 54321, its owner" +
				" | Run as root: chown -h root DIR/etc/site.hcl"}},
		{name: "symbolic link into another user's directory", root: true,
			change: func(t *testing.T) {
				move(t, "etc/site.hcl", "far/site")
				link(t, "../far/site", "etc/site.hcl")
				give(t, "far", stranger, 0)
			},
			want: []string{"etc/site.hcl can be replaced in the directory DIR/far (mode 0755) by user 54321, its owner" +
				" | Run as root: chown -h root DIR/far"}},
		{name: "symbolic link by way of another user's directory", root: true,
			change: func(t *testing.T) {
				move(t, "etc/site.hcl", "safe")
				link(t, "../far/up", "etc/site.hcl")
				link(t, "../safe", "far/up")
				give(t, "far", stranger, 0)
			},
			want: []string{"etc/site.hcl can be replaced in the directory DIR/far (mode 0755) by user 54321, its owner" +
				" | Run as root: chown -h root DIR/far"}},
		{name: "target of a symbolic link that every user can write to",
			change: func(t *testing.T) {
				move(t, "etc/site.hcl", "far/site")
				link(t, "../far/site", "etc/site.hcl")
				chmod(t, "far/site", 0o666&^0o020)
			},
			want: []string{"etc/site.hcl, which is DIR/far/site (mode 0646), can be changed by every user" +
				" | Run as root: chmod o-w DIR/far/site"}},
		{name: "key of another user", root: true,
			change: func(t *testing.T) { give(t, "etc/red-1.key", stranger, stranger) },
			want: []string{"etc/red-1.key belongs to user 54321, who can read and replace the key" +
				" | Run as root: chown root DIR/etc/red-1.key"}},
		{name: "key of the gateway's user", root: true, user: stranger,
			change: func(t *testing.T) { give(t, "etc/red-1.key", stranger, stranger) }},
		{name: "key in a directory that every user can write to",
			change: func(t *testing.T) {
				move(t, "etc/red-1.key", "far/my key")
				chmod(t, "far", 0o757)
				if err := os.WriteFile("etc/local.hcl", []byte("local {\n  private_key_file = \"../far/my key\"\n}\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"etc/local.hcl:2,22: DIR/far/my key can be replaced in the directory DIR/far (mode 0757) by every user" +
				" | Run as root: chmod o-w DIR/far"}},
	}
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range cases {
		if tc.root && os.Getuid() != 0 {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			dir := openTempDir(t)
			t.Chdir(dir)
			for _, d := range []string{"etc", "far"} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for name, content := range map[string]string{"etc/site.hcl": string(text), "etc/red-1.key": keys[0].Key.Reveal()} {
				mode := os.FileMode(0o644)
				if strings.HasSuffix(name, ".key") {
					mode = 0o600
				}
				if err := os.WriteFile(name, []byte(content), mode); err != nil {
					t.Fatal(err)
				}
			}
			tc.change(t)
			if tc.user != 0 {
				fileUser = func() int { return tc.user }
				defer func() { fileUser = os.Geteuid }()
			}
			for policy, severity := range map[KeyPolicy]Severity{KeyRequired: SeverityError, KeyOptional: SeverityWarning} {
				cfg, diags := Load([]string{filepath.Join(dir, "etc")}, Options{Key: policy})
				var got, want []string
				for i, d := range diags.List {
					diags.List[i].Summary = strings.ReplaceAll(d.Summary, dir, "DIR")
					diags.List[i].Detail = strings.ReplaceAll(d.Detail, dir, "DIR")
					diags.List[i].File = strings.ReplaceAll(d.File, dir, "DIR")
					got = append(got, fmt.Sprintf("%s: %s | %s", d.Severity, diags.List[i].line(), diags.List[i].Detail))
				}
				for _, w := range tc.want {
					want = append(want, fmt.Sprintf("%s: DIR/%s", severity, w))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("policy %d (-want +got):\n%s", policy, diff)
				}
				if diags.HasErrors() == (len(tc.want) == 0 || policy != KeyRequired) {
					t.Errorf("policy %d: errors %v", policy, diags.HasErrors())
				}
				if !diags.HasErrors() && !cfg.Self.Known {
					t.Errorf("policy %d: the node is not known", policy)
				}
				if policy == KeyRequired {
					said.add(tc.name, diags)
				}
			}
		})
	}
	t.Chdir(home)
	said.check(t, "messages-owners.golden", len(cases))
}

// TestUnsafeFileHasNoEffect: nothing of a file that another user can change is in the
// configuration of a gateway, which acts on parts of it even when there are mistakes.
func TestUnsafeFileHasNoEffect(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "site.hcl")
	if err := os.WriteFile(file, []byte("local {\n  state_dir = \"/etc\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o602); err != nil {
		t.Fatal(err)
	}
	cfg, diags := Load([]string{file}, Options{})
	if !diags.HasErrors() || cfg.Local.StateDir != "" {
		t.Errorf("state directory %q, findings %v", cfg.Local.StateDir, lines(diags))
	}
}

// TestProgramsOfOthers: the pair's programs run with the gateway's rights. Those of this node's
// site count; the other site's are not on this machine.
func TestProgramsOfOthers(t *testing.T) {
	dir := openTempDir(t)
	program := filepath.Join(dir, "move")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o757); err != nil {
		t.Fatal(err)
	}
	text := replaceOnce(t, ownPairFile, [2]string{"pair {", "pair {\n on_standby = [\"" + program + "\"]"})
	for node, want := range map[string]int{"red-1": 1, "gray-1": 0} {
		_, diags := LoadFiles([]File{{Name: "site.hcl", Text: []byte(text)}}, Options{Node: node})
		n := 0
		for _, d := range diags.List {
			if strings.Contains(d.Summary, program+" (mode 0757) can be changed by every user") && d.Severity == SeverityWarning && d.File == "site.hcl" {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d warnings of the program, want %d: %v", node, n, want, lines(diags))
		}
	}
}

// TestRelativePath: a file that is named from the working directory is examined, with all
// directories above it.
func TestRelativePath(t *testing.T) {
	dir := openTempDir(t)
	t.Chdir(dir)
	if err := os.WriteFile("site.hcl", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{".": 0o757, "site.hcl": 0o646} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	p := pathCheck{seen: map[string]bool{}}
	found, err := p.examine("site.hcl")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range found {
		got = append(got, strings.ReplaceAll(e.summary, dir, "DIR"))
	}
	want := []string{
		"site.hcl can be replaced in the directory DIR (mode 0757) by every user",
		"site.hcl (mode 0646) can be changed by every user",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadKeyFileOfAnotherUser: the owner decides whatever the mode is.
func TestReadKeyFileOfAnotherUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	if err := os.WriteFile(path, []byte(redPrivate), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // another user than root
		if err := os.Chown(path, stranger, -1); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { fileUser = os.Geteuid }()
	for user, allowed := range map[int]bool{stranger: os.Getuid() == 0, os.Getuid(): os.Getuid() != 0, stranger + 1: false} {
		fileUser = func() int { return user }
		key, err := ReadKeyFile(path)
		if (err == nil) != allowed || (err != nil && key != PrivateKey{}) {
			t.Errorf("as user %d: error %v, allowed %v", user, err, allowed)
		}
	}
}

// TestExamineOddPaths follows links that end nowhere, and one to a pipe that is open.
func TestExamineOddPaths(t *testing.T) {
	dir := openTempDir(t)
	for path, target := range map[string]string{"loop": "loop", "gone": "nothing"} {
		if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for path, want := range map[string]string{
		filepath.Join(dir, "loop"):              "too many levels of symbolic links",
		filepath.Join(dir, "gone"):              "no such file or directory",
		fmt.Sprintf("/proc/self/fd/%d", r.Fd()): "<nil>",
	} {
		p := pathCheck{seen: map[string]bool{}}
		if _, err := p.examine(path); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
