package deb

import (
	"fmt"
	"os"
	"strings"
)

// Block is a fenced block of the operations guide.
type Block struct {
	// Line of the guide at which the block begins, and the section it is in.
	Line    int
	Section string
	// Lang is "sh" for commands, which run On these hosts, one after the other.
	Lang string
	On   []string
	Text string
}

// Guide reads the blocks of a guide. The first line of commands names the hosts on which they
// run: "# on red-1 red-2".
func Guide(path string) ([]Block, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var blocks []Block
	var open *Block
	section, line := "", 0
	for text := range strings.Lines(string(b)) {
		line++
		fence, isFence := strings.CutPrefix(text, "```")
		switch {
		case isFence && open == nil:
			open = &Block{Line: line, Section: section, Lang: strings.TrimSpace(fence)}
		case isFence:
			if open.Lang == "sh" {
				first, rest, _ := strings.Cut(open.Text, "\n")
				hosts, ok := strings.CutPrefix(first, "# on ")
				if !ok {
					return nil, fmt.Errorf("%s:%d: the commands name no host; start the block with a line \"# on HOST\"", path, open.Line)
				}
				open.On, open.Text = strings.Fields(hosts), rest
			}
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.Text += text
		case strings.HasPrefix(text, "#"):
			section = strings.TrimSpace(strings.TrimLeft(text, "#"))
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block has no closing fence", path, open.Line)
	}
	return blocks, nil
}
