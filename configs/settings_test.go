package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSettingRows checks each row of the table: its effect, its default, and that no two rows
// share a name or a field.
func TestSettingRows(t *testing.T) {
	paths, fields := map[string]bool{}, map[any]string{}
	var l Local
	l.setDefaults()
	for _, row := range localSettings {
		if paths[row.path] {
			t.Errorf("%s has two rows", row.path)
		}
		paths[row.path] = true
		field := row.field(&l)
		if other := fields[field]; other != "" {
			t.Errorf("%s and %s share a field", other, row.path)
		}
		fields[field] = row.path
		if !slices.Contains([]Effect{EffectNone, EffectReload, EffectRestart}, row.effect) {
			t.Errorf("%s has effect %q", row.path, row.effect)
		}
		if n, ok := row.def.(int); ok && (int64(n) < row.min || int64(n) > row.max) {
			t.Errorf("%s: default %d is outside %d to %d", row.path, n, row.min, row.max)
		}
		if row.def != nil && row.canonical(&l) == row.canonical(new(Local)) {
			t.Errorf("%s: its default is not stored", row.path)
		}
	}
}

// TestReferenceHasDefaultsOfRows looks for each row's default in the comment above the setting.
func TestReferenceHasDefaultsOfRows(t *testing.T) {
	_, local, ok := strings.Cut(string(Reference), "\nlocal {\n")
	if !ok {
		t.Fatal("reference.hcl has no local block")
	}
	for _, row := range localSettings {
		if row.def == nil {
			continue
		}
		block, name := row.split()
		text := local
		if block != "" {
			_, text, _ = strings.Cut(local, "\n  "+block+" {\n")
		}
		at := regexp.MustCompile(`(?m)^ +` + name + ` += `).FindStringIndex(text)
		if at == nil {
			t.Errorf("reference.hcl doesn't show %s", row.path)
			continue
		}
		above := text[:at[0]]
		above = above[strings.LastIndex(above, "\n\n")+1:]
		comment := strings.Join(strings.Fields(strings.ReplaceAll(above, "#", " ")), " ")
		want := fmt.Sprintf("Default %v", row.def)
		if _, number := row.def.(int); !number {
			want = fmt.Sprintf("Default %q", row.def)
		}
		if !regexp.MustCompile(regexp.QuoteMeta(want) + `\b|` + regexp.QuoteMeta(want) + `[.:,]`).MatchString(comment) {
			t.Errorf("reference.hcl: the comment on %s doesn't say %s: %s", row.path, want, comment)
		}
	}
}
