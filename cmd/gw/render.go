package main

import "github.com/onewaylink/gw/configs"

type renderCmd struct {
	pathFlags
	For string `required:"" placeholder:"SITE" help:"Site that the file is for."`
}

// Run prints the configuration as one site needs it. No private key is needed.
func (c *renderCmd) Run(env *env) error {
	cfg, err := c.loadAs(env, configs.Options{Key: configs.KeyIgnored})
	if err != nil {
		return err
	}
	out, err := configs.Render(cfg, c.For)
	if err != nil {
		return usagef("render: %w", err)
	}
	return write(env.stdout, string(out))
}

type referenceCmd struct{}

// Run prints the reference file.
func (referenceCmd) Run(env *env) error { return write(env.stdout, string(configs.Reference)) }
