package nsq

import (
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var updateAdditions = flag.Bool("update-additions", false, "write testdata/additions.txt anew")

// TestAPI compares what the package exports with two lists: testdata/api.txt is
// the contract, the API of the published client, of which nothing may change;
// testdata/additions.txt is what we have besides, listed so that nothing is
// added or changed by accident.
func TestAPI(t *testing.T) {
	contract := readLines(t, "testdata/api.txt")
	var additions []string
	for _, line := range exportedAPI(t) {
		if !slices.Contains(contract, line) {
			additions = append(additions, line)
		}
	}
	got := exportedAPI(t)
	for _, line := range contract {
		if !slices.Contains(got, line) {
			t.Errorf("missing from the API: %s", line)
		}
	}
	if *updateAdditions {
		text := strings.Join(additions, "\n") + "\n"
		if err := os.WriteFile("testdata/additions.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	listed := readLines(t, "testdata/additions.txt")
	for _, line := range additions {
		if !slices.Contains(listed, line) {
			t.Errorf("not in testdata/additions.txt: %s", line)
		}
	}
	for _, line := range listed {
		if !slices.Contains(additions, line) {
			t.Errorf("only in testdata/additions.txt: %s", line)
		}
	}
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

// exportedAPI lists what the package exports, sorted: one line for each
// constant with its type and value, variable, function, method, type, struct
// field with its tag, and interface method.
func exportedAPI(t *testing.T) []string {
	t.Helper()
	pkg := checkedPackage(t)
	var lines []string
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		if constant, ok := object.(*types.Const); ok {
			lines = append(lines, fmt.Sprintf("const %s %s = %s", name, typeName(pkg, constant.Type()), constant.Val()))
			continue
		}
		named, ok := object.Type().(*types.Named)
		if _, isType := object.(*types.TypeName); !isType || !ok {
			lines = append(lines, types.ObjectString(object, types.RelativeTo(pkg)))
			continue
		}
		lines = append(lines, exportedType(pkg, named)...)
	}
	slices.Sort(lines)
	return lines
}

func exportedType(pkg *types.Package, named *types.Named) []string {
	name := "type " + named.Obj().Name()
	var lines []string
	switch under := named.Underlying().(type) {
	case *types.Struct:
		lines = append(lines, name+" struct")
		for i := range under.NumFields() {
			if field := under.Field(i); field.Exported() {
				line := name + " field " + field.Name() + " " + typeName(pkg, field.Type()) + " " + under.Tag(i)
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	case *types.Interface:
		lines = append(lines, name+" interface")
		for method := range under.Methods() {
			lines = append(lines, name+" method "+method.Name()+
				strings.TrimPrefix(typeName(pkg, method.Type()), "func"))
		}
		return lines
	default:
		lines = append(lines, name+" "+typeName(pkg, under))
	}
	for method := range named.Methods() {
		if method.Exported() {
			lines = append(lines, types.ObjectString(method, types.RelativeTo(pkg)))
		}
	}
	return lines
}

func typeName(pkg *types.Package, t types.Type) string {
	return types.TypeString(t, types.RelativeTo(pkg))
}

// checkedPackage type-checks this package, without its tests, against the
// export data that the go command has of what it imports.
func checkedPackage(t *testing.T) *types.Package {
	t.Helper()
	dir, err := build.Default.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range dir.GoFiles {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	pkg, err := config.Check(dir.ImportPath, fset, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}
