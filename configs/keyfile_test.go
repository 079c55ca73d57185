package configs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rfcPrivate and rfcPublic are Alice's keys in RFC 7748, section 6.1.
const (
	rfcPrivate = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
	rfcPublic  = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
)

func TestPublicKey(t *testing.T) {
	k, err := ParsePrivateKey(" " + rfcPrivate + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Public().String(); got != rfcPublic {
		t.Errorf("public key %s, want %s", got, rfcPublic)
	}
	if k.Reveal() != rfcPrivate {
		t.Error("Reveal doesn't return the text read")
	}
}

func TestPrivateKeyHides(t *testing.T) {
	k := GenerateKey()
	l := Local{PrivateKey: k}
	asJSON, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	leaks := []string{k.Reveal(), fmt.Sprintf("%x", k[:]), fmt.Sprintf("%d %d", k[0], k[1]), fmt.Sprintf("%d,%d", k[0], k[1]), fmt.Sprintf("0x%x, 0x%x", k[0], k[1])}
	out := []string{string(asJSON), k.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out = append(out, fmt.Sprintf(verb, k), fmt.Sprintf(verb, &k), fmt.Sprintf(verb, l))
	}
	for _, s := range out {
		for _, leak := range leaks {
			if strings.Contains(s, leak) {
				t.Errorf("%q shows the key", s)
			}
		}
	}
	if _, err := ParsePrivateKey(k.Reveal() + "x"); err == nil || strings.Contains(err.Error(), k.Reveal()[:8]) {
		t.Errorf("error %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for _, s := range []string{"", "x", "AAAA", strings.Repeat("A", 43) + "=", rfcPublic + "\n", rfcPublic[:43], strings.Repeat("A", 88)} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("ParseKey(%q) = %v", s, k)
		}
	}
}

// TestFindKey walks through the ways in which a node learns who it is.
func TestFindKey(t *testing.T) {
	text, keys, err := Starter(starterOptions())
	if err != nil {
		t.Fatal(err)
	}
	red, gray, stranger := keys[0].Key, keys[1].Key, GenerateKey()
	withLocal := func(s string) string { return string(text) + "\nlocal {\n  private_key_file = " + s + "\n}\n" }

	type file struct {
		name string
		key  string
		mode os.FileMode
	}
	cases := []struct {
		name   string
		config string
		files  []file
		option string // --key
		policy KeyPolicy
		node   string   // "" when not known
		want   []string // findings, DIR standing for the directory
	}{
		{name: "beside", files: []file{{"a.key", red.Reveal(), 0o600}}, node: "red-1"},
		{name: "beside among strangers", files: []file{{"a.key", stranger.Reveal(), 0o600}, {"b.key", gray.Reveal() + "\n", 0o400}, {"c.key", "junk", 0o600}}, node: "gray-1"},
		{name: "none", want: []string{"no private key: there is no *.key file beside the configuration"}},
		{name: "none, optional", policy: KeyOptional},
		{name: "several", files: []file{{"a.key", red.Reveal(), 0o600}, {"b.key", gray.Reveal(), 0o600}}, want: []string{"several private keys belong to nodes: DIR/a.key, DIR/b.key"}},
		{name: "several, optional", policy: KeyOptional, files: []file{{"a.key", red.Reveal(), 0o600}, {"b.key", gray.Reveal(), 0o600}}},
		{name: "several, one named", files: []file{{"a.key", red.Reveal(), 0o600}, {"b.key", gray.Reveal(), 0o600}}, option: "b.key", node: "gray-1"},
		{name: "strangers only", files: []file{{"a.key", stranger.Reveal(), 0o600}}, want: []string{"no private key here belongs to a node: DIR/a.key"}},
		{name: "strangers only, optional", policy: KeyOptional, files: []file{{"a.key", stranger.Reveal(), 0o600}}, want: []string{"no private key here belongs to a node: DIR/a.key"}},
		{name: "relative to the file", config: withLocal(`"keys/my"`), files: []file{{"keys/my", gray.Reveal(), 0o600}}, node: "gray-1"},
		{name: "option overrides", config: withLocal(`"keys/my"`), files: []file{{"keys/my", gray.Reveal(), 0o600}, {"b.key", red.Reveal(), 0o600}}, option: "b.key", node: "red-1"},
		{name: "absent", config: withLocal(`"my"`), want: []string{"DIR/site.hcl:56,22: private key: open DIR/my: no such file or directory"}},
		{name: "absent, optional", config: withLocal(`"my"`), policy: KeyOptional, want: []string{"warning: DIR/site.hcl:56,22: the private key DIR/my is not on this machine"}},
		{name: "empty", config: withLocal(`""`), want: []string{"DIR/site.hcl:56,22: private_key_file is empty"}},
		{name: "group reads", files: []file{{"a.key", red.Reveal(), 0o640}}, want: []string{"DIR/a.key has mode 0640: others than its owner may read the key"}},
		{name: "others read", config: withLocal(`"my"`), files: []file{{"my", red.Reveal(), 0o604}}, want: []string{"DIR/site.hcl:56,22: DIR/my has mode 0604: others than its owner may read the key"}},
		{name: "nobody's", config: withLocal(`"my"`), files: []file{{"my", stranger.Reveal(), 0o600}}, want: []string{"DIR/site.hcl:56,22: the private key in DIR/my belongs to no node"}},
		{name: "no key", config: withLocal(`"my"`), files: []file{{"my", "hello", 0o600}}, want: []string{"DIR/site.hcl:56,22: private key: DIR/my holds no private key: not base64 (a key is 44 characters that end in \"=\")"}},
		{name: "empty file", config: withLocal(`"my"`), files: []file{{"my", "", 0o600}}, want: []string{"DIR/site.hcl:56,22: private key: DIR/my is empty or can't be read: EOF"}},
		{
			name: "private key as public", config: strings.Replace(string(text), gray.Public().String(), gray.Reveal(), 1),
			files: []file{{"a", gray.Reveal(), 0o600}}, option: "a",
			want: []string{"DIR/site.hcl:17,18: this is the private key of DIR/a, not its public key"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.config == "" {
				tc.config = string(text)
			}
			files := append([]file{{"site.hcl", tc.config, 0o644}}, tc.files...)
			for _, f := range files {
				path := filepath.Join(dir, f.name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.key), f.mode); err != nil {
					t.Fatal(err)
				}
			}
			if tc.option != "" {
				tc.option = filepath.Join(dir, tc.option)
			}
			cfg, diags := Load([]string{dir}, Options{KeyFile: tc.option, Key: tc.policy})
			var got []string
			for _, l := range lines(diags) {
				got = append(got, strings.ReplaceAll(l, dir, "DIR"))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if cfg.Self.Known != (tc.node != "") {
				t.Fatalf("known: %v", cfg.Self)
			}
			if !cfg.Self.Known {
				return
			}
			if got := cfg.SelfNode().Name; got != tc.node {
				t.Errorf("node %s, want %s", got, tc.node)
			}
			if cfg.Local.PrivateKey.Public() != cfg.SelfNode().PublicKey {
				t.Error("the private key isn't this node's")
			}
			wantPort := uint16(0)
			if tc.node == "gray-1" {
				wantPort = 51820
			}
			if l := cfg.Local; l.StateDir != "/var/lib/gw/"+tc.node || l.Socket != "/run/gw/"+tc.node+".sock" || l.ListenPort != wantPort {
				t.Errorf("defaults: %+v", l)
			}
		})
	}
}

// TestKeyFileOddities reads what is no file; none of it may hang.
func TestKeyFileOddities(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.key")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero"} {
		if _, err := ReadKeyFile(path); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, diags := Load([]string{"/dev/zero"}, Options{}); !diags.HasErrors() {
		t.Error("/dev/zero loads")
	}
}

// TestCommonKey: two nodes derive the same key, and it depends on each of the three
// things that make it.
func TestCommonKey(t *testing.T) {
	a, b, c := GenerateKey(), GenerateKey(), GenerateKey()
	common := func(k PrivateKey, peer Key, label string) [32]byte {
		t.Helper()
		key, err := k.Common(peer, label)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	ab := common(a, b.Public(), "x")
	if ab != common(b, a.Public(), "x") {
		t.Error("the two nodes derive different keys")
	}
	if ab == common(a, c.Public(), "x") || ab == common(c, b.Public(), "x") || ab == common(a, b.Public(), "y") {
		t.Error("another node or another label has the same key")
	}
	for name, peer := range map[string]Key{"its own": a.Public(), "of low order": {1}} {
		if _, err := a.Common(peer, "x"); err == nil {
			t.Errorf("a public key that is %s is accepted", name)
		}
	}
}
