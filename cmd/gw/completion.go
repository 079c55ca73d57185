package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help tells how to install a script; kong shows it under the command.
func (completionCmd) Help() string {
	return "Put it where the shell looks for it:\n\n" +
		"  gw completion bash > /etc/bash_completion.d/gw\n" +
		"  gw completion zsh > /usr/local/share/zsh/site-functions/_gw\n" +
		"  gw completion fish > /etc/fish/completions/gw.fish"
}

// Run prints a completion script made from the grammar of the command line.
func (c *completionCmd) Run(env *env, k *kong.Context) error {
	places := walk(k.Model.Node, "")
	scripts := map[string]func([]place) string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	return write(env.stdout, scripts[c.Shell](places))
}

// place is a command, or the program itself, and what may follow it. Its path
// is the words that lead there, each with a blank before it: " ha drain".
type place struct {
	path     string
	commands []candidate
	flags    []flagWord
	argument *values // of the positional arguments; nil without any
}

type candidate struct{ word, help string }

// flagWord is a flag and what its value is.
type flagWord struct {
	long  string
	short rune // 0 without one
	help  string
	value *values // nil for a switch
}

// values says what a value may be: one of words, or a file, or anything.
type values struct {
	words []string
	file  bool
}

// walk lists a node of kong's model and all below it.
func walk(n *kong.Node, path string) []place {
	p := place{path: path}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			w := flagWord{long: f.Name, short: f.Short, help: f.Help}
			if !f.IsBool() {
				w.value = valuesOf(f.Value)
			}
			p.flags = append(p.flags, w)
		}
	}
	if len(n.Positional) > 0 {
		p.argument = valuesOf(n.Positional[0])
	}
	var below []place
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		p.commands = append(p.commands, candidate{child.Name, child.Help})
		below = append(below, walk(child, path+" "+child.Name)...)
	}
	return append([]place{p}, below...)
}

func valuesOf(v *kong.Value) *values {
	if v.Enum != "" {
		return &values{words: v.EnumSlice()}
	}
	return &values{file: v.Tag != nil && v.Tag.Get("complete") == "file"}
}

// words returns the spellings of a flag.
func (f flagWord) words() []string {
	out := []string{"--" + f.long}
	if f.short != 0 {
		out = append(out, "-"+string(f.short))
	}
	return out
}

// shellQuote makes one word of a text for bash and zsh.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// pathPatterns lists the paths of all commands as patterns of a shell's case.
func pathPatterns(places []place) string {
	var out []string
	for _, p := range places[1:] {
		out = append(out, shellQuote(p.path))
	}
	return strings.Join(out, "|")
}

// bashScript makes a function that finds the command among the words before the
// cursor, and then completes a flag's value, a flag, a command or an argument.
func bashScript(places []place) string {
	var b strings.Builder
	b.WriteString("# bash completion for gw\n_gw() {\n" +
		"  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= i words= file=\n" +
		"  COMPREPLY=()\n" +
		// bash parts --flag=value into three words.
		"  [[ $cur == = ]] && cur=\n" +
		"  [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}\n" +
		"  for ((i = 1; i < COMP_CWORD; i++)); do\n" +
		"    case \"$path ${COMP_WORDS[i]}\" in\n")
	fmt.Fprintf(&b, "      %s) path+=\" ${COMP_WORDS[i]}\" ;;\n", pathPatterns(places))
	b.WriteString("    esac\n  done\n  case \"$path:$prev:$cur\" in\n")
	for _, p := range places {
		// Before the flags themselves: a value may look like anything.
		for _, f := range p.flags {
			if f.value == nil {
				continue
			}
			for _, w := range f.words() {
				fmt.Fprintf(&b, "    %s:*) %s ;;\n", shellQuote(p.path+":"+w), bashValues(*f.value))
			}
		}
		var flags, commands []string
		for _, f := range p.flags {
			flags = append(flags, f.words()...)
		}
		fmt.Fprintf(&b, "    %s:*:-*) words=%s ;;\n", shellQuote(p.path), shellQuote(strings.Join(flags, " ")))
		switch {
		case len(p.commands) > 0:
			for _, c := range p.commands {
				commands = append(commands, c.word)
			}
			fmt.Fprintf(&b, "    %s:*) words=%s ;;\n", shellQuote(p.path), shellQuote(strings.Join(commands, " ")))
		case p.argument != nil:
			fmt.Fprintf(&b, "    %s:*) %s ;;\n", shellQuote(p.path), bashValues(*p.argument))
		}
	}
	b.WriteString("  esac\n" +
		"  if [[ -n $file ]]; then\n" +
		"    compopt -o filenames 2>/dev/null\n" +
		"    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n" +
		"  elif [[ -n $words ]]; then\n" +
		"    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n" +
		"  fi\n}\ncomplete -F _gw gw\n")
	return b.String()
}

func bashValues(v values) string {
	switch {
	case v.file:
		return "file=1"
	case len(v.words) > 0:
		return "words=" + shellQuote(strings.Join(v.words, " "))
	}
	return ":"
}

// zshScript makes the same decisions in zsh's terms.
func zshScript(places []place) string {
	var b strings.Builder
	b.WriteString("#compdef gw\n_gw() {\n" +
		"  local cur=$words[CURRENT] prev=$words[CURRENT-1] path_= w\n" +
		"  local -a list\n" +
		"  for w in \"${(@)words[2,CURRENT-1]}\"; do\n" +
		"    case \"${path_} $w\" in\n")
	fmt.Fprintf(&b, "      (%s) path_+=\" $w\" ;;\n", pathPatterns(places))
	b.WriteString("    esac\n  done\n  case \"${path_}:${prev}:$cur\" in\n")
	for _, p := range places {
		for _, f := range p.flags {
			if f.value == nil {
				continue
			}
			for _, w := range f.words() {
				fmt.Fprintf(&b, "    (%s:*) %s ;;\n", shellQuote(p.path+":"+w), zshValues(*f.value))
			}
		}
		var flags, commands []candidate
		for _, f := range p.flags {
			for _, w := range f.words() {
				flags = append(flags, candidate{w, f.help})
			}
		}
		fmt.Fprintf(&b, "    (%s:*:-*) list=(%s); _describe -o flag list ;;\n", shellQuote(p.path), zshList(flags))
		switch {
		case len(p.commands) > 0:
			commands = p.commands
			fmt.Fprintf(&b, "    (%s:*) list=(%s); _describe command list ;;\n", shellQuote(p.path), zshList(commands))
		case p.argument != nil:
			fmt.Fprintf(&b, "    (%s:*) %s ;;\n", shellQuote(p.path), zshValues(*p.argument))
		}
	}
	// Autoloaded, the file is the body of the function; sourced, it defines it.
	b.WriteString("  esac\n}\nif [[ $funcstack[1] = _gw ]]; then\n  _gw \"$@\"\nelse\n  compdef _gw gw\nfi\n")
	return b.String()
}

func zshValues(v values) string {
	switch {
	case v.file:
		return "_files"
	case len(v.words) > 0:
		return "compadd -- " + strings.Join(v.words, " ")
	}
	return ":"
}

func zshList(list []candidate) string {
	var out []string
	for _, c := range list {
		out = append(out, shellQuote(strings.ReplaceAll(c.word, ":", `\:`)+":"+c.help))
	}
	return strings.Join(out, " ")
}

// fishScript tells fish each candidate with the place where it fits.
func fishScript(places []place) string {
	var b strings.Builder
	b.WriteString("# fish completion for gw\nfunction __gw_at\n" +
		"  set -l path ''\n" +
		"  set -l before (commandline -opc)\n" +
		"  set -e before[1]\n" +
		"  for w in $before\n" +
		"    switch \"$path $w\"\n")
	var paths []string
	for _, p := range places[1:] {
		paths = append(paths, fishQuote(p.path))
	}
	fmt.Fprintf(&b, "      case %s\n        set path \"$path $w\"\n    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n", strings.Join(paths, " "))
	b.WriteString("complete -c gw -f\n")
	for _, p := range places {
		at := "complete -c gw -n " + fishQuote("__gw_at "+fishQuote(p.path))
		for _, c := range p.commands {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, c.word, fishQuote(c.help))
		}
		for _, f := range p.flags {
			fmt.Fprintf(&b, "%s -l %s", at, f.long)
			if f.short != 0 {
				fmt.Fprintf(&b, " -s %c", f.short)
			}
			if f.value != nil {
				b.WriteString(" -r" + fishValues(*f.value))
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuote(f.help))
		}
		if p.argument != nil {
			if v := fishValues(*p.argument); v != "" {
				b.WriteString(at + v + "\n")
			}
		}
	}
	return b.String()
}

func fishValues(v values) string {
	switch {
	case v.file:
		return " -F"
	case len(v.words) > 0:
		return " -a " + fishQuote(strings.Join(v.words, " "))
	}
	return ""
}

// fishQuote makes one word of a text: between single quotes, fish knows only
// backslash and quote.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
