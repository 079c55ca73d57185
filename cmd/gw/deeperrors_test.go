package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/onewaylink/gw/tests/messages"
)

// An origin is a file below this package, with errors that reach the command line.
type origin struct {
	file string
	// adds is what is said behind all of them; where it is empty each says by itself what
	// to do.
	adds string
}

const (
	addsDoctor = "; see what gw doctor -c DIR finds on this host"
	addsKernel = "; see what the kernel says: dmesg, …"
	addsOurs   = "; this is a mistake of gw: report it, …"
	addsAnew   = "; start it anew, and if it stops again see gw doctor"
	addsTrace  = ", as why a step of gw trace is unknown"
)

// deep are the errors that reach the command line from elsewhere than this package.
var deep = []struct {
	title  string
	places []origin
}{
	{"gw up ends with these before it carries anything", []origin{
		{"gateway/gateway.go", ""}, {"gateway/pairing.go", ""}, {"gateway/audit/file.go", ""}, {"gateway/safefile/safefile.go", ""}, {"gateway/control/socket.go", ""}, {"gateway/status/server.go", ""},
		{"gateway/records/store.go", ""}, {"gateway/records/lock.go", ""}, {"gateway/records/file.go", ""},
		{"gateway/hostnet/host.go", ""}, {"gateway/hostnet/apply.go", addsDoctor}, {"gateway/hostnet/route.go", addsDoctor}, {"gateway/hostnet/queue.go", addsDoctor}, {"gateway/hostnet/device.go", addsKernel}, {"gateway/hostnet/tun.go", addsKernel},
		{"gateway/epoch/epoch.go", ""}, {"gateway/epoch/reset/reset.go", ""}, {"gateway/pair/pair.go", ""}, {"ha/vip/vip.go", ""},
		{"ha/machine.go", addsOurs}, {"policy/policy.go", addsOurs}, {"policy/mode.go", addsOurs}, {"netstack/host.go", addsOurs}, {"netstack/legs.go", addsOurs},
		{"gateway/link/config.go", addsOurs}, {"gateway/link/hello/peer.go", addsOurs}, {"gateway/hostnet/water.go", addsKernel},
	}},
	{"gw up ends with these while it runs", []origin{
		{"gateway/link/link.go", addsAnew}, {"gateway/link/refusal.go", addsAnew}, {"gateway/link/bind/socket.go", addsAnew}, {"gateway/link/bind/ready.go", addsAnew}, {"gateway/link/bind/bind.go", addsAnew},
		{"gateway/flow/path.go", addsAnew}, {"gateway/flow/held.go", addsAnew}, {"gateway/ask/server.go", addsAnew}, {"gateway/streams/server.go", addsAnew},
		{"gateway/records/server.go", addsAnew}, {"gateway/status/serve.go", addsAnew}, {"gateway/web/page.go", addsAnew}, {"gateway/process/process.go", addsAnew},
		{"netstack/listener.go", addsAnew},
	}},
	{"commands end with these", []origin{
		{"gateway/hostnet/hold.go", ""}, {"gateway/capture/pcapng.go", ""}, {"gateway/capture/serve/serve.go", ""}, {"gateway/control/client.go", ""}, {"gateway/control/stream.go", ""}, {"gateway/control/ha.go", ""},
		{"gateway/control/reload.go", ""}, {"gateway/control/server.go", ""}, {"gateway/explain/ping.go", ""}, {"gateway/flow/probe.go", ""},
		{"gateway/explain/trace.go", ""}, {"gateway/explain/question.go", ""}, {"gateway/explain/pair.go", ""}, {"gateway/pair/view.go", ""}, {"ha/handover.go", ""},
		{"gateway/status/conn.go", ""}, {"gateway/status/flowspec.go", ""}, {"gateway/ask/ask.go", addsTrace}, {"gateway/streams/streams.go", addsTrace}, {"netstack/conn.go", addsTrace},
	}},
}

// unreached are the files whose errors no command shows, and why.
var unreached = map[string]string{
	"gateway/capture/capturetest/capturetest.go": "tests read captures with it",
	"gateway/flow/record.go":                     "a record that is bad is counted, and logged",
	"gateway/flow/relay.go":                      "a connection that can't be relayed stays raw, and its line says why",
	"gateway/holds/holds.go":                     "it is logged, with what to do",
	"gateway/hostnet/check_forward.go":           "a finding says so",
	"gateway/hostnet/check_legacy.go":            "a finding says so",
	"gateway/hostnet/check_past.go":              "a finding says so",
	"gateway/hostnet/forwardpath.go":             "a finding says so",
	"gateway/hostnet/check_route.go":             "a finding says so",
	"gateway/hostnet/keepholds.go":               "it is logged, and tried again",
	"gateway/hostnet/lease.go":                   "it is logged: the address can't be pinged",
	"gateway/hostnet/offload.go":                 "a packet that can't be written is counted",
	"gateway/link/bind/endpoint.go":              "it is logged, and tried again",
	"gateway/link/bind/send.go":                  "it is logged, and sent again",
	"gateway/link/datagram.go":                   "it is logged",
	"gateway/link/hello/codec.go":                "a message that is bad is counted",
	"gateway/link/hello/message.go":              "a message that is bad is counted",
	"gateway/link/resolve.go":                    "it is logged, and tried again",
	"gateway/process/core.go":                    "a warning says so, and the command goes on without",
	"gateway/records/fetch.go":                   "it is logged, and tried again",
	"gateway/records/proto.go":                   "it is logged, and tried again",
	"gateway/records/writer.go":                  "it is logged, and the file written anew",
	"gateway/relay/relayer.go":                   "the other gateway is told, and the connection stays raw",
	"gateway/status/snapshots.go":                "an answer to monitoring says it",
	"gateway/status/seconds.go":                  "only a command of another version reads such an answer",
	"gateway/trunk/conn.go":                      "the trunk ends, and the connection is raw",
	"gateway/trunk/packet.go":                    "a packet that is bad is counted",
	"ha/codec.go":                                "a message that is bad is counted",
	"ha/frame.go":                                "a message that is bad is counted",
	"ha/sink.go":                                 "a message that is bad is counted",
	"netstack/leg.go":                            "the relay ends, and the connection is raw",
	"netstack/relay_trunk.go":                    "the relay ends, and the connection is raw",
	"netstack/open.go":                           "the relay ends, and the connection is raw",
	"netstack/wire/fragcut.go":                   "the packet is dropped, and counted",
	"netstack/wire/frame.go":                     "the trunk ends, and the connection is raw",
}

// partial are errors that are said with others or not at all, and what then says what to do.
var partial = map[string]string{
	"there already":                 "is wrapped",
	"%s is %w and is left as it is": "the command adds what to name instead",
	"link is not running":           "gw status shows the link as down",
	"link to node %s: %w":           "at the start: a mistake of gw, as is said",
	"send the answer: %w":           "it is logged",
	"the answer is too long":        "why a step of gw trace is unknown",
	"too many questions from this site lately: wait some seconds and ask again": "why a step of gw trace is unknown",
	"%w: it requested those of site %q":                                         "it is logged",
	"%w: the site requests them too often":                                      "it is logged",
	"send records: %w":                                                          "it is logged",
	"encode the web page's %s: %w":                                              "can't happen: it is ours",
	"as many connections are relayed as may be":                                 "the connection stays raw",
	"the connection's last leg is not gone yet":                                 "the connection stays raw",
	"the gateway is being closed":                                               "the connection stays raw",
	"write tun %q: %w":                                                          "is counted",
	"write tun %q: checksum field lies outside the packet":                      "is counted",
	"write tun %q: no packet":                                                   "is counted",
	"write tun %q: packet of more than %d bytes":                                "is counted",
	"device takes no packets that are still to be cut":                          "is counted",
	"the device was deleted":                                                    "is wrapped",
	"a gateway is running here":                                                 "gw down adds it",
	"%w: %s has %s open":                                                        "gw down adds it",
	"%w: a process has %s open":                                                 "gw down adds it",
	"list addresses: %w":                                                        "the host's networks are left out",
	"/dev/net/tun is missing":                                                   "is wrapped",
	"not permitted":                                                             "is wrapped",
	"%s: %w":                                                                    "begins with the part that has failed; gw up adds what to do",
	"control socket %s: %w":                                                     "of InUseError, which says it",
	"close flow records: %w":                                                    "at the end of gw up, which adds it",
	"state directory is in use":                                                 "is wrapped",
	"ask for hop limits: %w":                                                    "is wrapped at the start; gw up adds it later",
	"filter neighbour solicitations: %w":                                        "is wrapped at the start; gw up adds it later",
	"join %v on %q: %w":                                                         "is wrapped at the start; gw up adds it later",
	"listen for ARP on %q: %w":                                                  "while it runs; gw up adds it",
	"listen for neighbour solicitations on %q: %w":                              "is wrapped at the start; gw up adds it later",
	"write capture: %w":                                                         "gw capture adds it",
	"no gateway is running here":                                                "askError adds it",
	"this user may not ask the gateway":                                         "askError adds it",
	"%w (%s)":                                                                   "askError adds it",
	"read the answer of the gateway at %s: %w":                                  "askError adds it",
	"ask the gateway at %s: %w":                                                 "askError adds it",
	"ask %s for %s: %w":                                                         "can't happen: all paths are our own",
	"the gateway at %s: %s":                                                     "is what that has said",
	"encode the files of the plan: %w":                                          "can't happen: it is text",
	"encode the answer: %w":                                                     "can't happen: it is ours",
	"write the question: %w":                                                    "can't happen: it is ours",
	"no such packet":                                                            "is wrapped",
	"%w: protocol %d":                                                           "can't happen: the command knows three",
	"%w: none":                                                                  "can't happen: the command makes one",
	"flow %q: %w":                                                               "of an end, which says what to write",
}

// nextStep is found in what says what to do.
var nextStep = regexp.MustCompile("`|; %s$|(^give|[;:,(] (or )?(leave|see|choose|use|stop|run|make|name|wait|ask|restart|write|give|add|remove|move|boot|update|start|report|mend|let|try|there is nothing))\\b|" +
	`\b(ip link|ip route|modprobe|sysctl|gw status|gw ha) `)

// TestDeepErrors finds every error of the other packages in the lists: in the golden files
// of what tests bring about, or else in one of its own, which the sources fill. Each says
// what to do, by itself or by what is added.
func TestDeepErrors(t *testing.T) {
	var said strings.Builder
	for _, name := range []string{"errors.txt", "errors-up.txt"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		said.Write(b)
	}
	found, err := deepErrors()
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	seen := map[string]bool{}
	for _, s := range deep {
		fmt.Fprintf(&list, "# %s\n\n", s.title)
		for _, p := range s.places {
			if len(found[p.file]) == 0 {
				t.Errorf("%s has no errors", p.file)
			}
			var lines []string
			for _, f := range found[p.file] {
				seen[f.Text] = true
				if p.adds == "" && partial[f.Text] == "" && !nextStep.MatchString(f.Text) {
					t.Errorf("%s: %q doesn't say what to do", f.Pos, f.Text)
				}
				if !broughtAbout(said.String(), f) {
					line := "  " + f.Text
					if why := partial[f.Text]; why != "" {
						line += "   # " + why
					} else if !nextStep.MatchString(f.Text) {
						line += p.adds
					}
					lines = append(lines, line)
				}
			}
			delete(found, p.file)
			slices.Sort(lines)
			if lines = slices.Compact(lines); len(lines) > 0 {
				fmt.Fprintf(&list, "%s\n%s\n\n", p.file, strings.Join(lines, "\n"))
			}
		}
	}
	fmt.Fprintf(&list, "# no command shows those of\n\n")
	for _, file := range slices.Sorted(maps.Keys(unreached)) {
		if len(found[file]) == 0 {
			t.Errorf("%s has no errors", file)
		}
		delete(found, file)
		fmt.Fprintf(&list, "%s\n  %s\n", file, unreached[file])
	}
	for file, list := range found {
		t.Errorf("%s: %q and others: name the file in deep, or say in unreached why no command shows them", file, list[0].Text)
	}
	for text := range partial {
		if !seen[text] {
			t.Errorf("partial: there is no error %q", text)
		}
	}
	checkGolden(t, "errors-deep.txt", list.String())
}

// broughtAbout reports whether a list holds the error; one without any words of its own is
// not looked for.
func broughtAbout(list string, f messages.Format) bool {
	pieces := f.Pieces()
	for _, p := range pieces {
		if !strings.Contains(list, p) {
			return false
		}
	}
	return true
}

// deepErrors are the errors of all other packages but configs, which has lists of its own,
// by file.
func deepErrors() (map[string][]messages.Format, error) {
	const root = "../.."
	out := map[string][]messages.Format{}
	for _, top := range []string{"gateway", "ha", "netstack", "policy"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			list, err := messages.Formats(path, 0, makesError)
			for _, f := range list {
				file, relErr := filepath.Rel(root, f.Pos.Filename)
				if relErr != nil {
					return relErr
				}
				out[filepath.ToSlash(file)] = append(out[filepath.ToSlash(file)], f)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
