package house

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commentWidth is where comments wrap, in columns, with a tab for four.
const commentWidth = 100

// unplain are phrases that a reader must read twice, with what to write.
var unplain = []struct{ phrase, instead string }{
	{`whoever`, "name the actor"},
	{`all the same`, "nevertheless, or leave it out"},
	{`(is|are|was|were) to be (cut|called|sent|woken|read|done|tried|measured|pulled|dropped|told|said)`, "name the actor: the caller calls"},
	{`anew`, "again; restart"},
	{`had better`, "should"},
	{`who comes`, "name the actor"},
	{`says no hello`, "a peer without gw's hello"},
	{`so long has passed`, "within that time"},
}

// TestPlainWords holds what a first reader stumbles over out of code and documents.
func TestPlainWords(t *testing.T) {
	var all []*regexp.Regexp
	for _, u := range unplain {
		all = append(all, regexp.MustCompile(`(?i)\b`+u.phrase+`\b`))
	}
	eachLine(t, []string{".go", ".md", ".hcl"}, func(at, line string) {
		for i, re := range all {
			if m := re.FindString(line); m != "" {
				t.Errorf("%s: %q: %s", at, m, unplain[i].instead)
			}
		}
	})
}

// TestCommentsHaveOneWidth: tables and drawings, which are indented, and addresses may be wider.
func TestCommentsHaveOneWidth(t *testing.T) {
	comment := regexp.MustCompile(`^\s*// [^\s]`)
	eachLine(t, []string{".go"}, func(at, line string) {
		wide := len([]rune(strings.ReplaceAll(line, "\t", "    ")))
		if comment.MatchString(line) && wide > commentWidth && !strings.Contains(line, "://") {
			t.Errorf("%s: a comment of %d columns, wrap it at %d", at, wide, commentWidth)
		}
	})
}

// eachLine calls check for each line of the files with an extension, but for this file.
func eachLine(t *testing.T, extensions []string, check func(at, line string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains(extensions, filepath.Ext(path)) || strings.HasSuffix(path, "house/words_test.go"):
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for n := 1; s.Scan(); n++ {
			check(fmt.Sprintf("%s:%d", path, n), s.Text())
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
