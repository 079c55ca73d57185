package main

import (
	"fmt"
	"io"
	"os"

	"github.com/onewaylink/gw/configs"
)

type genkeyCmd struct{}

// Run prints a new private key.
func (genkeyCmd) Run(env *env) error {
	if f, ok := env.stdout.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			fmt.Fprintf(env.stderr, "gw: others may read the key in this file, and gw up will refuse it: chmod 600 the file, or set umask 077 first\n")
		}
	}
	return write(env.stdout, configs.GenerateKey().Reveal()+"\n")
}

type pubkeyCmd struct{}

// Run turns the private key on stdin into its public key.
func (pubkeyCmd) Run(env *env) error {
	const enough = 1024 // a key is 44 characters
	text, err := io.ReadAll(io.LimitReader(env.stdin, enough))
	if err != nil {
		return fmt.Errorf("read the private key: %w", err)
	}
	key, err := configs.ParsePrivateKey(string(text))
	if err != nil {
		return fmt.Errorf("standard input holds no private key: %w; use: gw pubkey < KEYFILE", err)
	}
	return write(env.stdout, key.Public().String()+"\n")
}
