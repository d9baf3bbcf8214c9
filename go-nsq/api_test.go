package nsq

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// exportedAPI lists what the package exports, one declaration a line, sorted.
func exportedAPI(t *testing.T) string {
	fset := token.NewFileSet()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			lines = append(lines, exportedDecl(fset, decl)...)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func exportedDecl(fset *token.FileSet, decl ast.Decl) []string {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if !decl.Name.IsExported() {
			return nil
		}
		receiver := ""
		if decl.Recv != nil {
			receiver = source(fset, decl.Recv.List[0].Type)
			if !ast.IsExported(strings.TrimPrefix(receiver, "*")) {
				return nil
			}
			receiver = "(" + receiver + ") "
		}
		return []string{"func " + receiver + decl.Name.Name + strings.TrimPrefix(source(fset, decl.Type), "func")}
	case *ast.GenDecl:
		var lines []string
		for _, spec := range decl.Specs {
			lines = append(lines, exportedSpec(fset, decl.Tok, spec)...)
		}
		return lines
	}
	return nil
}

func exportedSpec(fset *token.FileSet, tok token.Token, spec ast.Spec) []string {
	var lines []string
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() {
				lines = append(lines, tok.String()+" "+name.Name)
			}
		}
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return nil
		}
		name := "type " + spec.Name.Name
		switch spec := spec.Type.(type) {
		case *ast.StructType:
			lines = append(lines, name+" struct")
			for _, field := range spec.Fields.List {
				lines = append(lines, exportedField(fset, name, field)...)
			}
		case *ast.InterfaceType:
			lines = append(lines, name+" interface")
			for _, method := range spec.Methods.List {
				lines = append(lines, name+" method "+method.Names[0].Name+strings.TrimPrefix(source(fset, method.Type), "func"))
			}
		default:
			lines = append(lines, name+" "+source(fset, spec))
		}
	}
	return lines
}

func exportedField(fset *token.FileSet, name string, field *ast.Field) []string {
	var lines []string
	for _, ident := range field.Names {
		if !ident.IsExported() {
			continue
		}
		line := name + " field " + ident.Name + " " + source(fset, field.Type)
		if field.Tag != nil {
			line += " " + field.Tag.Value
		}
		lines = append(lines, line)
	}
	return lines
}

func source(fset *token.FileSet, node ast.Node) string {
	var b strings.Builder
	_ = printer.Fprint(&b, fset, node) // a Builder does not fail
	return strings.Join(strings.Fields(b.String()), " ")
}

// diffLines lists the lines that only one of two sorted texts has.
func diffLines(want, got string) string {
	var b strings.Builder
	wantLines, gotLines := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range wantLines {
		if !slices.Contains(gotLines, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range gotLines {
		if !slices.Contains(wantLines, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}
