package main

import (
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
)

func TestTopOnce(t *testing.T) {
	source := madeUp{status: healthy(), conns: flows()}
	stdout, stderr, code := gw("top", "--once", "--socket", serve(t, source))
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkWidth(t, stdout)
	checkGolden(t, "top.txt", stdout)
}

func TestTopWantsATerminal(t *testing.T) {
	_, stderr, code := gw("top", "--socket", serve(t, madeUp{status: healthy()}))
	if code != exitUsage || !strings.Contains(stderr, "gw top --once") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A screen of any size is filled to its last line and never beyond, which would scroll it.
func TestTopFitsTheScreen(t *testing.T) {
	s := healthy()
	for range 100 {
		s.Links = append(s.Links, s.Links[0])
	}
	for _, height := range []int{1, 2, 5, 24, 60} {
		for _, width := range []int{1, 20, 80, 200} {
			frame := topFrame(s, status.ConnList{Total: 7, Conns: flows()}, topView{width: width, height: height, order: status.ByBytes, trouble: "gone"})
			lines := strings.Split(frame, "\n")
			if len(lines) != height {
				t.Errorf("%d lines on a screen of %d", len(lines), height)
			}
			for _, l := range lines {
				if n := len([]rune(l)); n > width {
					t.Errorf("%d columns on a screen of %d: %s", n, width, l)
				}
			}
		}
	}
}
