package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	// scrubbed stands in place of a secret.
	scrubbed = "redacted"
	// shortest is how many bytes a secret of the configuration must have to be looked for in other
	// texts. Shorter ones, such as "dev" in a command, are in every text.
	shortest = 5
)

var (
	// A key of 32 bytes in base64, as WireGuard writes it, or in hexadecimal. JSON may write + and
	// / as they are.
	keys = regexp.MustCompile(`[A-Za-z0-9+/_-]{43}=?|[0-9a-fA-F]{64}`)
	// What names itself a secret, wherever it stands.
	named = regexp.MustCompile(`(?i)([a-z0-9_-]*(?:secret|passwd|password|token)[a-z0-9_-]*"?\s*[=:]\s*)(?:"(?:[^"\\]|\\.)*"|[^\s"]+)`)
	// The commands of a pair in a log, and what they have printed, in hclog's text and JSON.
	commands = regexp.MustCompile(`(\b(?:command|output)=|"(?:command|output)":)(?:"(?:[^"\\]|\\.)*"|\S+)`)
	// A line of a value that has several, as hclog writes it to the journal.
	continued = regexp.MustCompile(`(?m)^(.*\]: +\| ).*$`)
)

// scrubber removes secrets from texts: keys, what names itself a secret, and what the configuration
// holds. The zero value knows nothing of a configuration.
type scrubber struct {
	all      texts // for the log, which may quote a command
	distinct texts // for what gw reports; no words of lower-case letters alone, which gw uses itself
}

// learn takes the secrets of a configuration, and the words in them.
func (s *scrubber) learn(secrets []string) {
	for _, secret := range secrets {
		for line := range strings.Lines(secret) {
			parts := append(words(line), strings.TrimSpace(line))
			for _, part := range parts {
				if len(part) < shortest {
					continue
				}
				s.all.add(part)
				if strings.ContainsFunc(part, func(r rune) bool { return r < 'a' || r > 'z' }) {
					s.distinct.add(part)
				}
			}
		}
	}
}

// words splits a command's argument where options, headers and addresses have their secrets.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-+/.", r)
	})
}

// texts are replaced wherever they occur. The zero value has none.
type texts struct {
	list     []string
	replacer *strings.Replacer // nil until the list is complete
}

func (t *texts) add(text string) {
	t.list, t.replacer = append(t.list, forms(text)...), nil
}

func (t *texts) replace(in string) string {
	if t.replacer == nil {
		slices.SortFunc(t.list, func(a, b string) int { return strings.Compare(b, a) }) // of two that begin alike, the longer one first
		var pairs []string
		for _, text := range slices.Compact(t.list) {
			pairs = append(pairs, text, scrubbed)
		}
		t.replacer = strings.NewReplacer(pairs...)
	}
	return t.replacer.Replace(in)
}

// forms are the ways in which texts quote a secret: as it is, in Go's quotes, in JSON's.
func forms(secret string) []string {
	goes := strconv.Quote(secret)
	out := []string{secret, goes[1 : len(goes)-1]}
	if b, err := json.Marshal(secret); err == nil {
		out = append(out, string(b[1:len(b)-1]))
	}
	return out
}

// scrub returns the text of a part of the bundle without secrets. Keys, public ones too, become
// fingerprints that still tell equal from different.
func (s *scrubber) scrub(part, text string) string {
	switch {
	case strings.HasPrefix(part, "host/"): // these tell of the kernel, in common words
	case part == "log.txt":
		text = s.all.replace(text)
	default:
		text = s.distinct.replace(text)
	}
	text = named.ReplaceAllString(text, `${1}"`+scrubbed+`"`)
	if part == "log.txt" {
		text = commands.ReplaceAllString(text, `${1}"`+scrubbed+`"`)
		text = continued.ReplaceAllString(text, `${1}`+scrubbed)
	}
	return keys.ReplaceAllStringFunc(text, func(k string) string {
		sum := sha256.Sum256([]byte(strings.TrimRight(k, "=")))
		return fmt.Sprintf("key-%x", sum[:4])
	})
}
