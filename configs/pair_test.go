package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ownPairFile is a pair whose first node has the private key rfcPrivate, and
// another in the other site.
const ownPairFile = `site "red" {
  subnets = ["10.77.1.0/24"]
  node "red-1" {
    public_key       = "` + rfcPublic + `"
    address          = "10.77.1.1"
    sibling_endpoint = "192.168.1.1:4500"
  }
  node "red-2" {
    public_key       = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address          = "10.77.1.2"
    sibling_endpoint = "192.168.1.2:4501"
  }
  pair {
    vip = "192.168.1.10/24"
  }
}
site "gray" {
  subnets = ["10.77.2.0/24"]
  node "gray-1" {
    public_key = "jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc="
    address    = "10.77.2.1"
    endpoint   = "203.0.113.10:51820"
  }
  node "gray-2" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = "10.77.2.2"
    endpoint   = "203.0.113.11:51820"
  }
}
link "red" "gray" {
  initiator = "red"
}
policy {
  rule "all" {
    from  = ["red", "red-1", "red-2"]
    to    = ["gray", "gray-1", "gray-2"]
    ports = ["any"]
  }
}
local {
  lan = "eth0"
}
`

// loadOwn loads a file with a private key beside it.
func loadOwn(t *testing.T, text, private string) (Config, []string) {
	t.Helper()
	dir := t.TempDir()
	key, file := filepath.Join(dir, "private.key"), filepath.Join(dir, "site.hcl")
	for path, content := range map[string]string{key: private, file: text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, diags := Load([]string{file}, Options{KeyFile: key})
	var out []string
	for _, l := range lines(diags) {
		out = append(out, strings.ReplaceAll(l, dir+"/", ""))
	}
	return cfg, out
}

// TestOwnPair checks what only the node itself can judge.
func TestOwnPair(t *testing.T) {
	const endpoint = "    endpoint = \"198.51.100.1:51820\"\n    public_key       = \"" + rfcPublic
	cases := []struct {
		name     string
		old, new string
		port     uint16
		sibling  string
		want     []string
	}{
		{"port of the sibling endpoint", "eth0", "eth1", 4500, "192.168.1.1:4500", nil},
		{"endpoint is the default", "sibling_endpoint = \"192.168.1.1:4500\"", "endpoint = \"198.51.100.1:51820\"", 51820, "198.51.100.1:51820", nil},
		{"two ports", "    public_key       = \"" + rfcPublic, endpoint, 51820, "192.168.1.1:4500", []string{
			`site.hcl:7,24: sibling_endpoint 192.168.1.1:4500, but this node listens on port 51820`,
		}},
		{"any port", "lan =", "listen_port = 0\n  lan =", 0, "192.168.1.1:4500", []string{
			`site.hcl:6,24: sibling_endpoint 192.168.1.1:4500, but this node listens on port 0`,
		}},
		{"no lan", "lan = \"eth0\"", "", 4500, "192.168.1.1:4500", []string{
			`site.hcl:14,11: a vip, but no lan: the interface that it belongs to isn't told`,
		}},
		{"no lan, no vip", "vip = \"192.168.1.10/24\"\n  }\n", "}\n", 4500, "192.168.1.1:4500", nil},
		{"without a pair block", "  pair {\n    vip = \"192.168.1.10/24\"\n  }\n", "", 4500, "192.168.1.1:4500", nil},
		{"the sibling's own business", "sibling_endpoint = \"192.168.1.2:4501\"", "sibling_endpoint = \"192.168.1.2:9\"\n    endpoint = \"198.51.100.1:8\"", 4500, "192.168.1.1:4500", nil},
		{"sibling out of reach", "    sibling_endpoint = \"192.168.1.2:4501\"\n", "", 4500, "192.168.1.1:4500", []string{
			`site.hcl:8,3: node "red-2" of a pair has neither sibling_endpoint nor endpoint`,
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			text := replaceOnce(t, ownPairFile, [2]string{tc.old, tc.new})
			cfg, got := loadOwn(t, text, rfcPrivate)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if cfg.Local.ListenPort != tc.port || cfg.SelfNode().SiblingEndpoint != tc.sibling {
				t.Errorf("port %d, sibling endpoint %s", cfg.Local.ListenPort, cfg.SelfNode().SiblingEndpoint)
			}
		})
	}
	mapped := replaceOnce(t, replaceOnce(t, ownPairFile, [2]string{"    public_key       = \"" + rfcPublic, endpoint}), [2]string{"lan =", "listen_port = 4500\n  lan ="})
	if _, got := loadOwn(t, mapped, rfcPrivate); got != nil {
		t.Errorf("endpoint behind a NAT: %q", got)
	}
}

// TestForeignPair is about the nodes of another site: a file rendered for it
// doesn't say how red's nodes reach each other, and needn't.
func TestForeignPair(t *testing.T) {
	key := GenerateKey()
	text := replaceOnce(t, ownPairFile, [2]string{"jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc=", key.Public().String()})
	cfg := mustLoad(t, text)
	rendered, err := Render(cfg, "gray")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(rendered), "sibling_endpoint") || strings.Contains(string(rendered), "192.168.1.") {
		t.Errorf("gray is told how red's nodes reach each other:\n%s", rendered)
	}
	got, findings := loadOwn(t, string(rendered), key.Reveal())
	if findings != nil {
		t.Fatalf("rendered for gray: %q", findings)
	}
	if n := got.SelfNode(); n.SiblingEndpoint != n.Endpoint || got.SelfSite().Pair == nil {
		t.Errorf("%+v", got.SelfSite())
	}
	if _, err := Render(got, "red"); err == nil || !strings.Contains(err.Error(), "neither sibling_endpoint nor endpoint") {
		t.Errorf("rendering red's file from gray's: %v", err)
	}
}

// TestPairSectionsCanonical changes each setting of a pair and looks for it among
// those that the siblings compare, and that the other site doesn't.
func TestPairSectionsCanonical(t *testing.T) {
	base := mustLoad(t, ownPairFile)
	changes := map[string][2]string{
		"site.red.node.red-1.sibling_endpoint": {"192.168.1.1:4500", "192.168.1.3:4500"},
		"site.red.pair.vip":                    {"192.168.1.10/24", "192.168.1.10/25"},
		"site.red.pair.heartbeat":              {"pair {", "pair {\n heartbeat = \"60ms\""},
		"site.red.pair.dead_after":             {"pair {", "pair {\n dead_after = \"160ms\""},
		"site.red.pair.on_active":              {"pair {", "pair {\n on_active = [\"/bin/a\", \"b c\"]"},
		"site.red.pair.on_standby":             {"pair {", "pair {\n on_standby = [\"/bin/a\"]"},
		"site.red.pair.command_timeout":        {"pair {", "pair {\n command_timeout = \"31s\""},
		"site.red.pair.wake":                   {"pair {", "pair {\n wake = false"},
	}
	for want, c := range changes {
		other := mustLoad(t, replaceOnce(t, ownPairFile, c))
		if diff := cmp.Diff(as(base, 0, 0).Sections("gray"), as(other, 0, 0).Sections("gray")); diff != "" {
			t.Errorf("%s: the other site notices:\n%s", want, diff)
		}
		var got []string
		theirs := as(other, 0, 1).Sections("red")
		for i, s := range as(base, 0, 0).Sections("red") {
			for j, a := range s.Attrs {
				if a.Digest != theirs[i].Attrs[j].Digest {
					got = append(got, a.Name)
				}
			}
			if (s.Digest != theirs[i].Digest) != (s.Name == "site.red.pair") {
				t.Errorf("%s: digest of section %s", want, s.Name)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s changed, but %v differ", want, got)
		}
	}
	arguments := func(list string) Section {
		return pairSection(mustLoad(t, replaceOnce(t, ownPairFile, [2]string{"pair {", "pair {\n on_active = " + list})).Sites[0])
	}
	if arguments(`["/bin/a", "b", "c"]`).Digest == arguments(`["/bin/a", "c", "b"]`).Digest || arguments(`["/bin/a", "b c"]`).Digest == arguments(`["/bin/a", "b", "c"]`).Digest {
		t.Error("arguments of a command are confused")
	}
}
