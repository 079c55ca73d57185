package process

import "testing"

func TestTidy(t *testing.T) {
	for _, tt := range []struct {
		name      string
		used      float64
		allocated uint64
		want      bool
	}{
		{"after a burst", 0.01, 100 << 20, true},
		{"during one", 0.9, 100 << 20, false},
		{"idle since the last time", 0.01, tidyAfter + 1<<20, false},
	} {
		d := tidier{done: 2 << 20}
		if got := d.due(tt.used, tt.allocated); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestAllocatedIsKnown(t *testing.T) {
	if allocated() == 0 {
		t.Error("the runtime doesn't tell what was allocated")
	}
}
