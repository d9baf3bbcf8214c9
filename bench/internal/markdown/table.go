// Package markdown writes tables that can be read as they are, and put into a document.
package markdown

import (
	"strings"
	"unicode/utf8"
)

// Table returns rows, of which the first is the heading, as a table. All have the same
// number of cells. The first column has names, to the left, the others numbers, to the
// right.
func Table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for line, row := range rows {
		b.WriteByte('|')
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(" " + cell + pad + " |")
			} else {
				b.WriteString(" " + pad + cell + " |")
			}
		}
		b.WriteByte('\n')
		if line == 0 {
			b.WriteString("|-" + strings.Repeat("-", widths[0]) + "-|")
			for _, w := range widths[1:] {
				b.WriteString(strings.Repeat("-", w+1) + ":|")
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
