package pair

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// epochFile holds the highest epoch in decimal.
const epochFile = "epoch"

// loadEpoch returns the highest epoch that a former process stored, 0 if none.
func loadEpoch(dir string) (uint64, error) {
	path := filepath.Join(dir, epochFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the epoch: %w; remove the file, the clock makes up for it", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the epoch: %s holds no number: %w; remove it, the clock makes up for it", path, err)
	}
	return n, nil
}

// storeEpoch replaces the file. It survives the death of the process; after that
// of the machine the clock makes up for it (see package ha).
func storeEpoch(dir string, epoch uint64) error {
	path := filepath.Join(dir, epochFile)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.FormatUint(epoch, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("store the epoch: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("store the epoch: %w", err)
	}
	return nil
}
