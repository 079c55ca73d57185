package configs

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asUser runs f on a thread that has the file permissions of an ordinary user.
func asUser(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	fileUser = func() int { return 65534 }
	defer func() { fileUser = os.Geteuid }()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := syscall.Setfsuid(65534)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// openTempDir makes a temporary directory that every user may look into.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCredentials lets a service user, who can't read the key of /etc/gw, find its copy.
func TestCredentials(t *testing.T) {
	text, keys, err := Starter(starterOptions())
	if err != nil {
		t.Fatal(err)
	}
	red, gray, stranger := keys[0].Key, keys[1].Key, GenerateKey()
	named := string(text) + "\nlocal {\n  private_key_file = \"keys/my.key\"\n}\n"
	const unread = 0o000 // to any user but root

	type file struct {
		name string
		key  string
		mode os.FileMode
	}
	for _, tc := range []struct {
		name   string
		config string
		files  []file // in "etc" the configuration's directory, in "cred" the credentials
		policy KeyPolicy
		node   string
		file   string // Local.PrivateKeyFile
		want   []string
	}{
		{name: "a copy of the key beside", files: []file{{"etc/red-1.key", red.Reveal(), unread}, {"cred/gw_red-1.key", red.Reveal(), 0o400}, {"cred/gw_site.hcl", "", 0o400}},
			node: "red-1", file: "DIR/cred/gw_red-1.key"},
		{name: "an access control list's mask", files: []file{{"cred/gw_red-1.key", red.Reveal(), 0o440}}, node: "red-1", file: "DIR/cred/gw_red-1.key"},
		{name: "a unit of the operator's own", files: []file{{"cred/any.key", gray.Reveal(), 0o400}}, node: "gray-1", file: "DIR/cred/any.key"},
		{name: "the copy first", files: []file{{"etc/a.key", gray.Reveal(), 0o600}, {"cred/gw_red-1.key", red.Reveal(), 0o400}}, node: "red-1", file: "DIR/cred/gw_red-1.key"},
		{name: "strangers there", files: []file{{"etc/a.key", red.Reveal(), 0o604}, {"cred/gw_b.key", stranger.Reveal(), 0o400}},
			want: []string{"DIR/etc/a.key has mode 0604: others than its owner may read the key"}},
		{name: "named in the file", config: named, files: []file{{"etc/keys/my.key", red.Reveal(), unread}, {"cred/gw_keys_my.key", red.Reveal(), 0o400}},
			node: "red-1", file: "DIR/etc/keys/my.key"},
		{name: "open to others", files: []file{{"cred/gw_red-1.key", red.Reveal(), 0o444}},
			want: []string{"DIR/cred/gw_red-1.key has mode 0444: others than its owner may read the key"}},
		{name: "no copy", files: []file{{"etc/red-1.key", red.Reveal(), unread}}, want: []string{"private key: no permission to read DIR/etc/red-1.key"}},
		{name: "no copy, optional", policy: KeyOptional, files: []file{{"etc/red-1.key", red.Reveal(), unread}}},
		{name: "no copy of what is named", config: named, files: []file{{"etc/keys/my.key", red.Reveal(), unread}},
			want: []string{"DIR/etc/site.hcl:56,22: private key: open DIR/etc/keys/my.key: permission denied"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := openTempDir(t)
			if tc.config == "" {
				tc.config = string(text)
			}
			for _, f := range append([]file{{"etc/site.hcl", tc.config, 0o644}, {"cred/gw_other", "", 0o400}}, tc.files...) {
				path := filepath.Join(dir, f.name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.key), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, f.mode); err != nil {
					t.Fatal(err)
				}
				if os.Getuid() == 0 && f.mode != unread {
					if err := os.Chown(path, 65534, -1); err != nil {
						t.Fatal(err)
					}
				}
			}
			var cfg Config
			var diags Diagnostics
			asUser(t, func() {
				cfg, diags = Load([]string{filepath.Join(dir, "etc")}, Options{Key: tc.policy, Credentials: filepath.Join(dir, "cred")})
			})
			var got []string
			for _, l := range lines(diags) {
				got = append(got, strings.ReplaceAll(l, dir, "DIR"))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tc.node == "" {
				if cfg.Self.Known {
					t.Errorf("it is node %s", cfg.SelfNode().Name)
				}
				return
			}
			if !cfg.Self.Known {
				t.Fatal("the node is not known")
			}
			if got := cfg.SelfNode().Name; got != tc.node {
				t.Errorf("node %s, want %s", got, tc.node)
			}
			if got := strings.ReplaceAll(cfg.Local.PrivateKeyFile, dir, "DIR"); got != tc.file {
				t.Errorf("private key file %s, want %s", got, tc.file)
			}
		})
	}
}
