package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/safefile"
)

type manCmd struct {
	Dir string `required:"" placeholder:"DIR" complete:"file" help:"Directory for the pages; created if missing."`
}

// Run writes the manual: a page for the program and one for each command, made
// from the grammar of the command line, and one for the configuration. `make deb`
// calls it; nothing that is installed does.
func (c *manCmd) Run(_ *env, k *kong.Context) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w; choose another --dir", err)
	}
	for _, p := range manual(k.Model.Node) {
		if err := writePage(filepath.Join(c.Dir, p.name), p.text); err != nil {
			return fmt.Errorf("write a page of the manual: %w; choose another --dir", err)
		}
	}
	return nil
}

// writePage writes a page that everybody may read, in place of an earlier one.
func writePage(path, text string) error {
	f, err := safefile.Replace(path, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

// page is a page of the manual, in the language of man(7).
type page struct{ name, text string }

// manual makes all pages for the program that is the root of kong's model.
func manual(root *kong.Node) []page {
	pages := []page{programPage(root), configPage()}
	for _, n := range root.Leaves(true) {
		pages = append(pages, commandPage(root, n))
	}
	return pages
}

// title is the name of a command's page: gw-ha-drain.
func title(n *kong.Node) string {
	if n.Parent == nil {
		return n.Name
	}
	return title(n.Parent) + "-" + n.Name
}

// roff escapes a text that stands in a paragraph. A period or a quote at the
// start of a line would be taken for a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		b.WriteString(line)
	}
	return b.String()
}

func header(b *strings.Builder, name string, section int, help string) {
	fmt.Fprintf(b, ".TH %s %d \"\" gw gw\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), section, roff(name), roff(strings.TrimSuffix(help, ".")))
}

// paragraphs lays a help text out: what is indented is literal.
func paragraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		literal := strings.HasPrefix(p, "  ")
		switch {
		case literal:
			fmt.Fprintf(b, ".RS 2\n.nf\n%s\n.fi\n.RE\n", roff(strings.ReplaceAll(strings.TrimPrefix(p, "  "), "\n  ", "\n")))
			continue
		case i > 0:
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(p) + "\n")
	}
}

func programPage(root *kong.Node) page {
	var b strings.Builder
	about, codes, _ := strings.Cut(root.Help, "\n\nExit codes: ")
	header(&b, root.Name, 1, about)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I command\n[\\fIflags\\fR]\n.SH COMMANDS\n", root.Name)
	for _, n := range root.Leaves(true) {
		fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(title(n)), roff(n.Help))
	}
	fmt.Fprintf(&b, ".SH EXIT STATUS\n%s\n", roff(codes))
	b.WriteString(`.SH FILES
.TP
.I /etc/gw
The configuration, *.hcl, and this node's private key, *.key.
.TP
.I /var/lib/gw
Records of connections, for a restart.
.TP
.I /run/gw
Sockets that commands ask running gateways by.
.SH SEE ALSO
.BR gw.hcl (5),
.BR systemctl (1),
/usr/share/doc/gw/operations.md
`)
	return page{root.Name + ".1", b.String()}
}

func commandPage(root, n *kong.Node) page {
	var b strings.Builder
	name := title(n)
	header(&b, name, 1, n.Help)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(n.FullPath()), roff(synopsis(n)))
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, n.Help+"\n\n"+n.Detail)
	b.WriteString(".SH OPTIONS\n")
	for _, p := range n.Positional {
		fmt.Fprintf(&b, ".TP\n\\fI%s\\fR\n%s\n", roff(p.Name), roff(p.Help))
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			b.WriteString(".TP\n")
			if f.Short != 0 {
				fmt.Fprintf(&b, "\\fB\\-%c\\fR, ", f.Short)
			}
			fmt.Fprintf(&b, "\\fB\\-\\-%s\\fR", roff(f.Name))
			if !f.IsBool() {
				fmt.Fprintf(&b, "=\\fI%s\\fR", roff(f.FormatPlaceHolder()))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(f.Help))
		}
	}
	_, codes, _ := strings.Cut(root.Help, "Exit codes: ")
	fmt.Fprintf(&b, ".SH EXIT STATUS\n%s\n.SH SEE ALSO\n.BR gw (1),\n.BR gw.hcl (5)\n", roff(codes))
	return page{name + ".1", b.String()}
}

// synopsis is kong's own, without the words that lead to the command.
func synopsis(n *kong.Node) string {
	return strings.TrimSpace(strings.TrimPrefix(n.Summary(), strings.TrimPrefix(n.Path(), " ")))
}

// configPage shows the reference file, which explains itself.
func configPage() page {
	var b strings.Builder
	header(&b, "gw.hcl", 5, "configuration of gw")
	b.WriteString(".SH DESCRIPTION\nThis file explains every setting, with its default and why one would change it.\n" +
		".BR gw\\-reference (1)\nprints it.\n.PP\n.nf\n")
	b.WriteString(roff(string(configs.Reference)))
	b.WriteString(".fi\n.SH SEE ALSO\n.BR gw (1),\n.BR gw\\-validate (1)\n")
	return page{"gw.hcl.5", b.String()}
}
