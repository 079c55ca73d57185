package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	stdout, stderr, code := gw("import", "../../configs/testdata/wg/dialled.conf", "--dir", dir, "--site", "gray", "--peer", "red")
	if code != 0 || !strings.Contains(stderr, "dialled.conf:14,16: warning: PresharedKey was left out") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkGolden(t, "import.txt", strings.ReplaceAll(stdout, dir, "DIR"))
	info, err := os.Stat(filepath.Join(dir, "gray-1.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	stdout, stderr, code = gw("validate", "-c", dir)
	if code != 0 || !strings.Contains(stdout, "this is node gray-1 of site gray") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}

	for _, tt := range []struct {
		file, dir string
		code      int
		says      string
	}{
		{"../../configs/testdata/wg/dialled.conf", dir, 1, "is there already and is left as it is"},
		{"../../configs/testdata/wg/mistakes.conf", t.TempDir(), 2, "mistakes.conf:9,14: error"},
		{filepath.Join(dir, "absent"), t.TempDir(), 2, "absent: no such file"},
		{dir, t.TempDir(), 1, "is a directory"},
	} {
		_, stderr, code := gw("import", tt.file, "--dir", tt.dir, "--site", "gray")
		if code != tt.code || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: exit %d: %s", tt.file, code, stderr)
		}
		if left, _ := filepath.Glob(filepath.Join(tt.dir, "*")); tt.dir != dir && len(left) > 0 {
			t.Errorf("%s left %v", tt.file, left)
		}
	}
}
