package safefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// place makes something at a path in a directory of its own, and returns the path.
type place func(t *testing.T, path string)

func regular(text string, mode fs.FileMode) place {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
}

// foreign is a file of another user. Only root can make one.
func foreign(t *testing.T, path string) {
	t.Helper()
	regular("theirs", 0o644)(t, path)
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatalf("%v; run the tests as root", err)
	}
}

func symlink(t *testing.T, path string) {
	t.Helper()
	regular("target", 0o600)(t, path+".target")
	if err := os.Symlink(path+".target", path); err != nil {
		t.Fatal(err)
	}
}

func dangling(t *testing.T, path string) {
	t.Helper()
	if err := os.Symlink(path+".target", path); err != nil {
		t.Fatal(err)
	}
}

func fifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func directory(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// open is one of the ways to write "new" to a file.
type open struct {
	name  string
	write func(path string) error
}

var ways = []open{
	{"create", func(path string) error {
		f, err := Create(path, 0o600)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, "new")
		return errors.Join(err, f.Close())
	}},
	{"append", func(path string) error {
		f, err := Append(path, 0o600)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, "new")
		return errors.Join(err, f.Close())
	}},
	{"replace", func(path string) error {
		f, err := Replace(path, 0o600)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, "new")
		return errors.Join(err, f.Commit())
	}},
}

// TestWhatIsThere: whatever another user has put at the path is refused with what to do, and
// neither it nor what it leads to is touched.
func TestWhatIsThere(t *testing.T) {
	const refused = ""
	for _, c := range []struct {
		name  string
		place place
		// want is what the file holds afterwards, for each of the ways.
		create, append, replace string
		advice                  [3]string
	}{
		{"nothing", nil, "new", "new", "new", [3]string{}},
		{"own file", regular("old", 0o644), refused, "oldnew", "new", [3]string{"left as it is"}},
		{"another user's file", foreign, refused, refused, refused, [3]string{"left as it is", "remove it first", "remove it first"}},
		{"symbolic link", symlink, refused, refused, refused, [3]string{"left as it is", ".target itself", ".target itself"}},
		{"symbolic link to nothing", dangling, refused, refused, refused, [3]string{"left as it is", ".target itself", ".target itself"}},
		{"FIFO", fifo, refused, refused, refused, [3]string{"left as it is", "let the shell open it", "let the shell open it"}},
		{"directory", directory, refused, refused, refused, [3]string{"left as it is", "name a file in it", "name a file in it"}},
	} {
		for i, want := range []string{c.create, c.append, c.replace} {
			t.Run(c.name+"/"+ways[i].name, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "file")
				if c.place != nil {
					c.place(t, path)
				}
				before := contents(t, dir)
				err := ways[i].write(path)
				if want == refused {
					if err == nil || !strings.Contains(err.Error(), c.advice[i]) {
						t.Errorf("error %v, want one with %q", err, c.advice[i])
					}
					if after := contents(t, dir); after != before {
						t.Errorf("changed from\n%sto\n%s", before, after)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); string(got) != want || err != nil {
					t.Errorf("holds %q, %v", got, err)
				}
				if entries, _ := os.ReadDir(dir); len(entries) != 1 {
					t.Errorf("left behind: %v", entries)
				}
				if info, err := os.Stat(path); ways[i].name != "append" && (err != nil || info.Mode() != 0o600) {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
			})
		}
	}
}

// contents describes a directory, each file with mode, owner and text.
func contents(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		b.WriteString(strings.Join([]string{e.Name(), info.Mode().String(), string(text)}, " ") + "\n")
	}
	return b.String()
}

// TestAppendToRoots: a file of root's may be appended to by another user who may write it, such as
// one that was made before the service had a user of its own.
func TestAppendToRoots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	regular("old", 0o600)(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := owned(path, info, 0); err != nil {
		t.Error(err)
	}
}

// TestReplaceKeepsTheOld until Commit, and after Discard.
func TestReplaceKeepsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	regular("old", 0o644)(t, path)
	r, err := Replace(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(r, "new"); err != nil {
		t.Fatal(err)
	}
	before := string(must(os.ReadFile(path)))
	if err := r.Discard(); err != nil {
		t.Fatal(err)
	}
	if after := string(must(os.ReadFile(path))); before != "old" || after != "old" {
		t.Errorf("%q before Discard, %q after it", before, after)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); len(entries) != 1 || err != nil {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
