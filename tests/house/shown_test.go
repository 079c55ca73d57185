package house

import "testing"

// TestWhatIsShownIsSet: the product sets each field of a snapshot, so none is shown that was never measured.
func TestWhatIsShownIsSet(t *testing.T) {
	set := map[field]bool{}
	var shown []field
	for _, s := range sources(t) {
		written, _ := s.uses()
		for f := range written {
			set[f] = true
		}
		if s.name == "gateway/status" || s.name == "gateway/doctor" {
			shown = append(shown, s.exportedFields(func(string) bool { return true })...)
		}
	}
	if len(shown) < 150 {
		t.Fatalf("found %d fields", len(shown))
	}
	for _, f := range shown {
		if !set[f] {
			t.Errorf("nothing sets %v, which is shown: set it, or remove it", f)
		}
	}
}
