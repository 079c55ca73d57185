package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the release build: -ldflags "-X main.version=v1.2.3".
var version string

// buildVersion is the output of `gw version --json`.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source
	Modified bool   `json:"modified,omitempty"` // the source differed from it
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// readVersion tells what this program was built from.
func readVersion() buildVersion {
	v := buildVersion{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if v.Version == "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if v.Version == "" || v.Version == "(devel)" {
		v.Version = "devel"
	}
	return v
}

// versionText is the version as peers and status are told it.
func versionText() string { return readVersion().Version }

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON; its names are stable."`
}

// Run prints what this program was built from.
func (c *versionCmd) Run(env *env) error {
	v := readVersion()
	if c.JSON {
		return writeJSON(env.stdout, v)
	}
	source := ""
	if v.Revision != "" {
		source = ", from " + v.Revision
		if v.Modified {
			source += " with changes"
		}
	}
	return write(env.stdout, fmt.Sprintf("gw %s (%s, %s/%s%s)\n", v.Version, v.Go, v.OS, v.Arch, source))
}
