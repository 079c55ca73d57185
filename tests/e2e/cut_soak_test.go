//go:build soak

package e2e

import (
	"testing"
	"time"
)

// TestLongLinkCut: four minutes, longer than any time-out that a half-hearted
// tracker has.
func TestLongLinkCut(t *testing.T) { cutLink(t, 4*time.Minute) }
