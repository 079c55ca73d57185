package main

import (
	"fmt"
	"strings"

	"github.com/onewaylink/gw/configs"
)

type validateCmd struct {
	configFlags
	Strict bool `help:"Check as gw up does: the key must exist, and files that other users can change are errors."`
	JSON   bool `name:"json" help:"Print the findings as JSON; its names are stable."`
}

// validation is the output of `gw validate --json`.
type validation struct {
	Valid       bool                 `json:"valid"`
	Files       []string             `json:"files"`
	Site        string               `json:"site,omitempty"` // of the node whose private key is here
	Node        string               `json:"node,omitempty"`
	Diagnostics []configs.Diagnostic `json:"diagnostics"`
}

// Run checks the configuration. Without --strict, it needs no private key, but checks one
// that is here.
func (c *validateCmd) Run(env *env) error {
	opt := c.options()
	if !c.Strict {
		opt.Key = configs.KeyOptional
	}
	if c.JSON {
		return c.runJSON(env, opt)
	}
	cfg, err := c.loadAs(env, opt)
	if err != nil {
		return err
	}
	who := "no key here says which node this is"
	if cfg.Self.Known {
		who = fmt.Sprintf("this is node %s of site %s", cfg.SelfNode().Name, cfg.SelfSite().Name)
	}
	_, err = fmt.Fprintf(env.stdout, "valid: %s, %s, %s; %s\n%s\n",
		plural(len(cfg.Sites), "site"), plural(len(cfg.Links), "link"), plural(len(cfg.Rules), "rule"), who, "read: "+strings.Join(cfg.Files, ", "))
	return err
}

func (c *validateCmd) runJSON(env *env, opt configs.Options) error {
	cfg, diags := configs.Load(c.Config, opt)
	v := validation{Valid: !diags.HasErrors(), Files: cfg.Files, Diagnostics: diags.List}
	if v.Files == nil {
		v.Files = []string{}
	}
	if v.Diagnostics == nil {
		v.Diagnostics = []configs.Diagnostic{}
	}
	if cfg.Self.Known {
		v.Site, v.Node = cfg.SelfSite().Name, cfg.SelfNode().Name
	}
	if err := writeJSON(env.stdout, v); err != nil {
		return err
	}
	if !v.Valid {
		return &usageError{diags.Err()}
	}
	return nil
}
