package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSettingRows checks each row of the tables: its effect, its default, its shape, and that no
// two rows of a table share a name or a field.
func TestSettingRows(t *testing.T) {
	checkRows(t, localSettings)
	checkRows(t, pairSettings)
	checkRows(t, linkSettings)
}

func checkRows[T any](t *testing.T, rows []setting[T]) {
	t.Helper()
	paths, fields := map[string]bool{}, map[any]string{}
	var filled, zero T
	setDefaults(rows, &filled)
	for _, row := range rows {
		if paths[row.path] {
			t.Errorf("%s has two rows", row.path)
		}
		paths[row.path] = true
		field := row.field(&filled)
		if other := fields[field]; other != "" {
			t.Errorf("%s and %s share a field", other, row.path)
		}
		fields[field] = row.path
		if !slices.Contains([]Effect{EffectNone, EffectReload, EffectRestart}, row.effect) {
			t.Errorf("%s has effect %q", row.path, row.effect)
		}
		if n, ok := number64(row.def); ok && row.max != 0 && (n < row.min || n > row.max || n%max(row.step, 1) != 0) {
			t.Errorf("%s: default %v is outside %d to %d", row.path, row.def, row.min, row.max)
		}
		if row.def != nil && row.canonical(&filled) == row.canonical(&zero) {
			t.Errorf("%s: its default is not stored", row.path)
		}
		if _, text := field.(*string); text && row.shape == nil {
			t.Errorf("%s has no shape", row.path)
		}
	}
}

// number64 is a default as the file's number has it.
func number64(def any) (int64, bool) {
	switch def := def.(type) {
	case int:
		return int64(def), true
	case time.Duration:
		return int64(def), true
	}
	return 0, false
}

// TestReferenceHasDefaultsOfRows looks for each row's default in the comment above the setting.
func TestReferenceHasDefaultsOfRows(t *testing.T) {
	reference := string(Reference)
	defaultsShown(t, localSettings, after(t, reference, "local {"))
	defaultsShown(t, pairSettings, after(t, reference, "pair {"))
	defaultsShown(t, linkSettings, after(t, reference, `link "red" "gray" {`))
}

// after returns what follows the head of a block.
func after(t *testing.T, text, head string) string {
	t.Helper()
	at := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(head) + `$`).FindStringIndex(text)
	if at == nil {
		t.Fatalf("reference.hcl has no block %s", head)
	}
	return text[at[1]:]
}

func defaultsShown[T any](t *testing.T, rows []setting[T], body string) {
	t.Helper()
	for _, row := range rows {
		if row.def == nil {
			continue
		}
		block, name := row.split()
		text := body
		if block != "" {
			text = after(t, body, block+" {")
		}
		at := regexp.MustCompile(`(?m)^ +` + name + ` += `).FindStringIndex(text)
		if at == nil {
			t.Errorf("reference.hcl doesn't show %s", row.path)
			continue
		}
		above := text[:at[0]]
		above = above[strings.LastIndex(above, "\n\n")+1:]
		comment := strings.Join(strings.Fields(strings.ReplaceAll(above, "#", " ")), " ")
		want := fmt.Sprintf("Default %q", fmt.Sprint(row.def))
		switch row.def.(type) {
		case int, bool:
			want = fmt.Sprintf("Default %v", row.def)
		}
		if !regexp.MustCompile(regexp.QuoteMeta(want) + `\b|` + regexp.QuoteMeta(want) + `[.:,]`).MatchString(comment) {
			t.Errorf("reference.hcl: the comment on %s doesn't say %s: %s", row.path, want, comment)
		}
	}
}
