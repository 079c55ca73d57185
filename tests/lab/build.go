package lab

import (
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
)

var built struct {
	sync.Mutex
	paths map[string]string
}

// Build compiles a main package of this module, once per process, and returns
// the program's path. It needs the go command, and a working directory inside
// the module, as tests have.
func Build(pkg string) (string, error) {
	built.Lock()
	defer built.Unlock()
	if p, ok := built.paths[pkg]; ok {
		return p, nil
	}
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, path.Base(pkg))
	if msg, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[pkg] = out
	return out, nil
}
