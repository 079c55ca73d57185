package configs

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// wgFile is a file of wg-quick(8): what it says, with places, before any check of
// meaning. Names of settings are in lower case, for neither program minds.
type wgFile struct {
	at     hcl.Range // of [Interface]; without a file name when there is none
	iface  map[string][]text
	peers  []wgPeer
	secret []hcl.Range // of values that must not be shown
}

type wgPeer struct {
	at       hcl.Range
	settings map[string][]text
}

// first returns a setting's first value, nil without one.
func first(settings map[string][]text, name string) *text {
	if list := settings[name]; len(list) > 0 {
		return &list[0]
	}
	return nil
}

// The settings of either section. Those of lists may be repeated; a command of
// wg-quick's, too.
var (
	wgInterface = map[string]bool{
		"privatekey": false, "listenport": false, "fwmark": false, "mtu": false, "table": false, "saveconfig": false,
		"address": true, "dns": true, "preup": true, "postup": true, "predown": true, "postdown": true,
	}
	wgPeerSettings = map[string]bool{
		"publickey": false, "presharedkey": false, "endpoint": false, "persistentkeepalive": false, "allowedips": true,
	}
)

// parseWG reads a file of wg-quick. Mistakes of form are reported; what could be
// read is returned as well.
func (c *collector) parseWG(name string, src []byte) (f wgFile) {
	f.iface = map[string][]text{}
	var settings map[string][]text // of the section that is being read
	var known map[string]bool
	section, shown := "", ""
	offset, number := 0, 0
	for line := range bytes.Lines(src) {
		number++
		place := func(from, to int) hcl.Range {
			pos := func(i int) hcl.Pos {
				return hcl.Pos{Line: number, Column: utf8.RuneCount(line[:i]) + 1, Byte: offset + i}
			}
			return hcl.Range{Filename: name, Start: pos(from), End: pos(to)}
		}
		body, _, _ := bytes.Cut(line, []byte("#"))
		from, to := trimmed(body, 0, len(body))
		switch {
		case from == to:
		case body[from] == '[':
			shown = string(body[from:to])
			section = strings.ToLower(shown)
			switch section {
			case "[interface]":
				if f.at.Filename != "" {
					c.errorAt(place(from, to), "Keep one: a file is one interface's.", "a second [Interface]")
				}
				f.at, settings, known = place(from, to), f.iface, wgInterface
			case "[peer]":
				settings, known = map[string][]text{}, wgPeerSettings
				f.peers = append(f.peers, wgPeer{at: place(from, to), settings: settings})
			default:
				settings = nil
				c.errorAt(place(from, to), "wg-quick knows [Interface] and [Peer].", "there is no section %s", shown)
			}
		default:
			eq := bytes.IndexByte(body, '=')
			if eq < 0 {
				if low := strings.ToLower(string(body)); strings.Contains(low, "privatekey") || strings.Contains(low, "presharedkey") {
					f.secret = append(f.secret, place(from, to))
				}
				c.errorAt(place(from, to), "Lines are NAME = VALUE, or [Interface], or [Peer]. Is it a file of wg-quick?", "a line that is no setting")
				break
			}
			key := strings.ToLower(strings.TrimSpace(string(body[:eq])))
			if key == "privatekey" || key == "presharedkey" {
				f.secret = append(f.secret, place(eq+1, to))
			}
			if section == "" {
				c.errorAt(place(from, to), "Settings stand below [Interface] or [Peer].", "a setting before the first section")
			}
			if settings == nil {
				break // of a section that is no section
			}
			list, ok := known[key]
			if !ok {
				c.warnAt(place(from, eq), "gw reference explains what there is in its place, if anything.", "%s is no setting of %s that gw knows, and was left out", strings.TrimSpace(string(body[from:eq])), shown)
				break
			}
			if len(settings[key]) > 0 && !list {
				c.errorAt(place(from, eq), "Say it once.", "%s is set again", strings.TrimSpace(string(body[from:eq])))
				break
			}
			c.wgValues(settings, key, body, eq+1, place)
		}
		offset += len(line)
	}
	return f
}

// wgValues takes the values of a setting: several in the two lists of addresses.
func (c *collector) wgValues(settings map[string][]text, key string, body []byte, start int, place func(from, to int) hcl.Range) {
	list := key == "address" || key == "allowedips"
	for start <= len(body) {
		end := len(body)
		if i := bytes.IndexByte(body[start:], ','); list && i >= 0 {
			end = start + i
		}
		from, to := trimmed(body, start, end)
		switch {
		case from < to:
			settings[key] = append(settings[key], text{s: string(body[from:to]), at: place(from, to)})
		case key != "allowedips": // which may be empty
			c.errorAt(place(from, to), "Write a value, or take the line away.", "a setting without a value")
		}
		start = end + 1
	}
}

// trimmed returns the bounds of body[from:to] without the white space around it.
func trimmed(body []byte, from, to int) (int, int) {
	s := body[from:to]
	to -= len(s) - len(bytes.TrimRight(s, " \t\r\n"))
	from += len(s) - len(bytes.TrimLeft(s, " \t\r\n"))
	return min(from, to), to
}
