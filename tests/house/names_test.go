package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the top of the repository.
const root = "../.."

// testFunctions returns the names of all test and fuzz functions, by package directory ("./ha").
func testFunctions(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir := "./" + filepath.ToSlash(rel)
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			if all[dir] == nil {
				all[dir] = map[string]bool{}
			}
			all[dir][f.Name.Name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// target is a line of tests/fuzz.list.
type target struct{ pkg, name string }

func fuzzList(t *testing.T) (all []target) {
	t.Helper()
	b, err := os.ReadFile(path.Join(root, "tests/fuzz.list"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		pkg, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, target{pkg, name})
	}
	if len(all) < 5 {
		t.Fatalf("%d targets are listed", len(all))
	}
	return all
}

// TestFuzzListIsTrue: `make fuzz-ci` would report no test for a target that is gone.
func TestFuzzListIsTrue(t *testing.T) {
	known := testFunctions(t)
	for _, target := range fuzzList(t) {
		if !strings.HasPrefix(target.name, "Fuzz") || !known[target.pkg][target.name] {
			t.Errorf("there is no fuzz target %q in %q", target.name, target.pkg)
		}
	}
}

// TestThreatModelNamesFuzzTargets: each target that CI fuzzes shows a statement of
// docs/security.md.
func TestThreatModelNamesFuzzTargets(t *testing.T) {
	b, err := os.ReadFile(path.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range fuzzList(t) {
		if !strings.Contains(string(b), "`"+target.name+"`") {
			t.Errorf("docs/security.md does not name %s of %s", target.name, target.pkg)
		}
	}
}

// TestThreatModelNamesRealTests: docs/security.md names the tests that show each statement.
func TestThreatModelNamesRealTests(t *testing.T) {
	b, err := os.ReadFile(path.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, names := range testFunctions(t) {
		for name := range names {
			known[name] = true
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(b), -1)
	for _, m := range named {
		if !known[m[1]] {
			t.Errorf("docs/security.md names %s, but no such test exists", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("docs/security.md names %d tests", len(named))
	}
}
