//go:build soak

package web

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of the page in each state")

// browser speaks the Chrome DevTools Protocol to one tab.
type browser struct {
	t  *testing.T
	ws *websocket.Conn
	id int
}

// chromium starts the browser on an empty tab.
func chromium(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: apt-get install --no-install-recommends chromium")
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir="+t.TempDir(), "about:blank")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	b := &browser{t: t}
	for lines := bufio.NewScanner(stderr); b.ws == nil && lines.Scan(); {
		if _, url, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
			if b.ws, err = websocket.Dial(url, "", "http://localhost"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if b.ws == nil {
		t.Fatal("chromium did not start")
	}
	b.ws.MaxPayloadBytes = 64 << 20
	go func() { _, _ = io.Copy(io.Discard, stderr) }() // or it would wait for a reader
	return b
}

// call asks and waits for the answer.
func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	b.id++
	msg := map[string]any{"id": b.id, "method": method, "params": params}
	if session != "" {
		msg["sessionId"] = session
	}
	if err := websocket.JSON.Send(b.ws, msg); err != nil {
		b.t.Fatal(err)
	}
	for {
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := b.ws.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			b.t.Fatal(err)
		}
		if err := websocket.JSON.Receive(b.ws, &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.id {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		}
		return answer.Result
	}
}

func read[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

type object = map[string]any

// tab opens an empty page of that width and colour scheme.
func (b *browser) tab(width int, scheme string) (session string) {
	b.t.Helper()
	target := read[struct{ TargetID string }](b.t, b.call("", "Target.createTarget", object{"url": "about:blank"}))
	session = read[struct{ SessionID string }](b.t, b.call("", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true})).SessionID
	b.call(session, "Emulation.setDeviceMetricsOverride", object{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640})
	b.call(session, "Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}})
	return session
}

// js evaluates an expression, waiting for its promise.
func (b *browser) js(session, expression string) string {
	b.t.Helper()
	got := read[struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}](b.t, b.call(session, "Runtime.evaluate", object{"expression": expression, "awaitPromise": true, "returnByValue": true}))
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, got.ExceptionDetails.Exception.Description)
	}
	return fmt.Sprint(got.Result.Value)
}

// shown waits in the page until it shows its first snapshot, and collects what the browser
// complains of.
const shown = `new Promise(done => {
  const ready = () => document.querySelector("#flow-rows tr") && document.querySelector("#links svg");
  if (ready()) return done("shown");
  const o = new MutationObserver(() => { if (ready()) { o.disconnect(); done("shown"); } });
  o.observe(document, {childList: true, subtree: true});
  setTimeout(() => done("not shown: " + (document.body ? document.body.innerText : "no body")), 30000);
})`

const watch = `window.complaints = [];
addEventListener("error", e => complaints.push(e.message || "a file is missing"), true);
addEventListener("securitypolicyviolation", e => complaints.push("the policy blocked " + e.blockedURI + e.sourceFile));`

func TestPageInChromium(t *testing.T) {
	b := chromium(t)
	for _, name := range []string{"healthy", "degraded", "failing-over"} {
		url := serve(t, state(name))
		for _, width := range []int{1280, 390} {
			for _, scheme := range []string{"light", "dark"} {
				tab := b.tab(width, scheme)
				b.call(tab, "Page.enable", object{})
				b.call(tab, "Page.addScriptToEvaluateOnNewDocument", object{"source": watch})
				b.call(tab, "Page.navigate", object{"url": url})
				b.js(tab, `document.readyState === "complete" || new Promise(done => addEventListener("load", done))`)
				if got := b.js(tab, shown); got != "shown" {
					t.Fatalf("%s at %d: %s; complaints: %s", name, width, got, b.js(tab, `complaints.join("; ")`))
				}
				b.look(tab, name, width)
				if *screenshots != "" {
					b.picture(tab, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
				}
			}
		}
	}
}

// look checks what the page shows.
func (b *browser) look(tab, name string, width int) {
	b.t.Helper()
	want := map[string]string{
		`complaints.join("; ")`: "",
		`document.title`:        "red-1 – gw",
		`document.querySelector("#flow-rows img") === null`:                                                                       "true",
		`document.querySelectorAll("#flow-rows tr").length`:                                                                       "46",
		`document.querySelectorAll("#links .link").length`:                                                                        "3",
		`document.documentElement.scrollWidth <= innerWidth`:                                                                      "true",
		`document.querySelectorAll("#timeline .phases").length > 0`:                                                               "true",
		`document.querySelector("#timeline li:last-child").textContent.includes("the process on red-1 started; what was before")`: "true",
		`document.querySelector("#problems").hidden`:                                                                              fmt.Sprint(name == "healthy"),
		`document.querySelector("#health").textContent`:                                                                           map[string]string{"healthy": "healthy", "degraded": "needs attention", "failing-over": "failing over"}[name],
		`document.querySelector("#topology svg").getAttribute("role")`:                                                            "img",
		`document.querySelectorAll("svg[role=img]:not([aria-label])").length`:                                                     "0",
	}
	for expression, w := range want {
		if got := b.js(tab, expression); got != w {
			b.t.Errorf("%s at %d: %s is %q, want %q", name, width, expression, got, w)
		}
	}
	b.js(tab, `document.querySelector("#filter").value = "fd77"; document.querySelector("#filter").dispatchEvent(new Event("input"))`)
	if got := b.js(tab, `document.querySelectorAll("#flow-rows tr").length`); got != "1" {
		b.t.Errorf("the filter leaves %s flows, want 1", got)
	}
	b.js(tab, `document.querySelector("#filter").value = ""; document.querySelector("[data-key=age] button").click()`)
	if got := b.js(tab, `document.querySelector("[data-key=age]").getAttribute("aria-sort") + document.querySelector("#flow-rows tr").children[9].textContent`); got != "descending1 d" {
		b.t.Errorf("sorted by age, the first is %q", got)
	}
}

func (b *browser) picture(tab, name string) {
	b.t.Helper()
	shot := read[struct{ Data []byte }](b.t, b.call(tab, "Page.captureScreenshot", object{"format": "png", "captureBeyondViewport": true,
		"clip": object{"x": 0, "y": 0, "width": json.Number(b.js(tab, "innerWidth")), "height": json.Number(b.js(tab, "document.documentElement.scrollHeight")), "scale": 1}}))
	if err := os.WriteFile(filepath.Join(*screenshots, name), shot.Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
