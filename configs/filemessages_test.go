package configs

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Two private keys of nobody's, whose nodes the files below have.
const (
	redPrivate  = "aPxGwq8zERHQ3Q1cOZFdJ+cvJX5Ka4mLN38AyYKYF10="
	grayPrivate = "qFx3kUXnuJQqbYwvnTYbcr5OZpQnOl3aDxLQ7bz/HVs="
)

func public(t *testing.T, private string) string {
	t.Helper()
	k, err := ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public().String()
}

// TestFileMessages: mistakes that are not in one file's text, but in which files
// and keys there are, and in what the machine with the key needs.
func TestFileMessages(t *testing.T) {
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(openTempDir(t)) // so that no path of this machine is told
	if err := os.Mkdir("none", 0o755); err != nil {
		t.Fatal(err)
	}
	node := func(name, key, addr, more string) string {
		return fmt.Sprintf("  node %q {\n    public_key = %q\n    address = %q\n%s  }\n", name, key, addr, more)
	}
	site := func(name string, subnet int, body string) string {
		return fmt.Sprintf("site %q {\n  subnets = [\"10.77.%d.0/24\"]\n%s}\n", name, subnet, body)
	}
	link := func(a, b string) string { return fmt.Sprintf("link %q %q {\n  initiator = %q\n}\n", a, b, a) }
	rule := func(from, to string) string {
		return fmt.Sprintf("policy {\n  rule \"r\" {\n    from = [%q]\n    to = [%q]\n    ports = [\"any\"]\n  }\n}\n", from, to)
	}
	redKey, grayKey := public(t, redPrivate), public(t, grayPrivate)
	red := site("red", 1, node("red-1", redKey, "10.77.1.1", ""))
	gray := site("gray", 2, node("gray-1", grayKey, "10.77.2.1", "    endpoint = \"203.0.113.10:51820\"\n"))
	good := red + gray + link("red", "gray") + rule("red", "gray")
	sibling := func(host string) string { return fmt.Sprintf("    sibling_endpoint = \"10.77.1.%s:51820\"\n", host) }
	pair := func(more string) string {
		return site("red", 1, node("red-1", redKey, "10.77.1.1", sibling("251"))+
			node("red-2", testKeys[0], "10.77.1.2", sibling("252"))+more) + gray + link("red", "gray") + rule("red", "gray")
	}
	none := map[string]string{}
	withKey := map[string]string{"red-1.key": redPrivate}
	said := &listing{}
	cases := []struct {
		name  string
		text  string            // of site.hcl
		keys  map[string]string // files beside it
		paths []string          // site.hcl, if nil
		opt   Options
		want  string
	}{
		{"no path", good, none, []string{}, Options{}, "no configuration file given"},
		{"no file", good, none, []string{"absent.hcl"}, Options{}, "no such file"},
		{"empty directory", good, none, []string{"none"}, Options{}, "there is no *.hcl file in none"},
		{"long file", strings.Repeat("#\n", 300<<10), none, nil, Options{}, "is longer than"},
		{"no site", "local {}\n", none, nil, Options{}, "names no site"},
		{"no key", good, none, nil, Options{}, "there is no *.key file"},
		{"key of nobody beside", good, map[string]string{"x.key": GenerateKey().Reveal()}, nil, Options{}, "belongs to a node: x.key"},
		{"two keys", good, map[string]string{"a.key": redPrivate, "b.key": grayPrivate}, nil, Options{}, "a.key, b.key"},
		{"key to come", good + "local { private_key_file = \"later.key\" }\n", none, nil, Options{Key: KeyOptional}, "is not on this machine"},
		{"key open to others", good, map[string]string{"open.key": redPrivate}, nil, Options{KeyFile: "open.key"}, "mode 0644"},
		{"key of root alone", good, map[string]string{"unread.key": redPrivate}, nil, Options{}, "no permission to read unread.key"},
		{"named key of root alone", good, map[string]string{"unread.key": redPrivate}, nil, Options{KeyFile: "unread.key"}, "open unread.key: permission denied"},
		{"file of root alone", good, map[string]string{"unread.hcl": "local {}\n"}, []string{"site.hcl", "unread.hcl"}, Options{}, "open unread.hcl: permission denied"},
		{"garbage for a key", good, map[string]string{"bad.key": "x"}, nil, Options{KeyFile: "bad.key"}, "holds no private key"},
		{"key of nobody", good, map[string]string{"x.key": "wHrFkmYNLRhmQ1KjSs3dDiRQC9KwV4CVCdl0QXG2H1c="}, nil, Options{KeyFile: "x.key"}, "belongs to no node"},
		{"private key for a public one", strings.Replace(good, redKey, redPrivate, 1), withKey, nil, Options{KeyFile: "red-1.key"}, "not its public key"},
		{"vip without lan", pair("  pair {\n    vip = [\"10.77.1.254/24\"]\n  }\n"), withKey, nil, Options{}, "a vip, but no lan"},
		{"another port", pair("") + "local { listen_port = 5 }\n", withKey, nil, Options{}, "listens on port 5"},
		{"long socket", good + "local { socket = \"/" + strings.Repeat("x", 120) + "\" }\n", withKey, nil, Options{}, "more than 107 characters"},
		{"set in two blocks", good + "local { lan = \"a\" }\nlocal { lan = \"b\" }\n", withKey, nil, Options{}, "set again, first at site.hcl"},
		{"rule of strangers", good + site("green", 3, node("green-1", testKeys[1], "10.77.3.1", "")) + "policy {\n  rule \"s\" {\n    from = [\"red\"]\n    to = [\"green\"]\n    ports = [\"any\"]\n  }\n}\n", none, nil, Options{Key: KeyIgnored}, "its sites have no link"},
		{"node that is gone", good, none, nil, Options{Node: "red-9"}, "no node \"red-9\" any more"},
		{"no address", red + gray + link("red", "gray") + rule("10.77.1", "gray"), none, nil, Options{Key: KeyIgnored}, "neither a site"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile("site.hcl", []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			for name, text := range tc.keys {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				mode := map[string]os.FileMode{"open.key": 0o644, "unread.key": 0, "unread.hcl": 0}
				if m, ok := mode[name]; ok {
					if err := os.Chmod(name, m); err != nil {
						t.Fatal(err)
					}
				}
				defer os.Remove(name)
			}
			paths := tc.paths
			if paths == nil {
				paths = []string{"site.hcl"}
			}
			var diags Diagnostics
			load := func() { _, diags = Load(paths, tc.opt) }
			if tc.keys["unread.key"]+tc.keys["unread.hcl"] != "" {
				asUser(t, load)
			} else {
				load()
			}
			if got := strings.Join(lines(diags), "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
			said.add(tc.name, diags)
		})
	}
	t.Chdir(home)
	said.check(t, "messages-files.golden", len(cases))
}
