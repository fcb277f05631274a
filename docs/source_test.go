package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// folders are the packages that the document quotes, by the names it gives them.
var folders = map[string]string{
	"wire": "../internal/wire", "identity": "../identity", "sealed": "../identity/sealed", "store": "../store",
	"dht": "../dht", "host": "../node/host", "node": "../node", "courier": "../node/courier",
}

// source is what one package declares.
type source struct {
	consts map[string]ast.Expr
	names  []string // of the constants, in order
	types  map[string]ast.Expr
	funcs  map[string]*ast.FuncDecl
}

var sources sync.Map // by name of the package

// load reads the declarations of a package. It reads the text and not the compiled package, so that constants and
// structs which are not exported can be compared too.
func load(pkg string) (*source, error) {
	if s, ok := sources.Load(pkg); ok {
		return s.(*source), nil
	}
	folder, ok := folders[pkg]
	if !ok {
		return nil, fmt.Errorf("package %q is not known", pkg)
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{consts: make(map[string]ast.Expr), types: make(map[string]ast.Expr), funcs: make(map[string]*ast.FuncDecl)}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				s.funcs[f.Name.Name] = f
			}
			g, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					s.types[spec.Name.Name] = spec.Type
				case *ast.ValueSpec:
					for i, name := range spec.Names {
						if g.Tok == token.CONST && i < len(spec.Values) {
							s.consts[name.Name] = spec.Values[i]
							s.names = append(s.names, name.Name)
						}
					}
				}
			}
		}
	}
	if len(s.consts)+len(s.types) == 0 {
		return nil, fmt.Errorf("package %q has no source in %s", pkg, folder)
	}
	sources.Store(pkg, s)
	return s, nil
}

// exported lists the exported constants of a package.
func exported(t *testing.T, pkg string) []string {
	t.Helper()
	s, err := load(pkg)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range s.names {
		if ast.IsExported(n) {
			names = append(names, n)
		}
	}
	return names
}

// constantOf works out a constant, written package.Name. A duration counts nanoseconds.
func constantOf(full string) (string, error) {
	pkg, name, ok := strings.Cut(full, ".")
	if !ok {
		return "", errors.New("it is not written package.Name")
	}
	v, err := value(pkg, name)
	if err != nil {
		return "", err
	}
	return v.ExactString(), nil
}

func value(pkg, name string) (constant.Value, error) {
	if pkg == "time" {
		ns, ok := map[string]int64{"Nanosecond": 1, "Millisecond": 1e6, "Second": 1e9, "Minute": 60e9, "Hour": 3600e9}[name]
		if !ok {
			return nil, fmt.Errorf("time.%s is not known", name)
		}
		return constant.MakeInt64(ns), nil
	}
	s, err := load(pkg)
	if err != nil {
		return nil, err
	}
	e, ok := s.consts[name]
	if !ok {
		return nil, fmt.Errorf("there is no constant %s.%s", pkg, name)
	}
	return eval(pkg, e)
}

// eval works out an expression of constants.
func eval(pkg string, e ast.Expr) (constant.Value, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0), nil
	case *ast.ParenExpr:
		return eval(pkg, e.X)
	case *ast.Ident:
		return value(pkg, e.Name)
	case *ast.SelectorExpr:
		other, ok := e.X.(*ast.Ident)
		if !ok {
			return nil, errors.New("not a constant of a package")
		}
		return value(other.Name, e.Sel.Name)
	case *ast.CallExpr: // a conversion
		if len(e.Args) != 1 {
			return nil, errors.New("not a conversion")
		}
		return eval(pkg, e.Args[0])
	case *ast.BinaryExpr:
		x, err := eval(pkg, e.X)
		if err != nil {
			return nil, err
		}
		y, err := eval(pkg, e.Y)
		if err != nil {
			return nil, err
		}
		op := e.Op
		if op == token.SHL || op == token.SHR {
			n, ok := constant.Uint64Val(y)
			if !ok {
				return nil, errors.New("shift by no number")
			}
			return constant.Shift(x, op, uint(n)), nil
		}
		if op == token.QUO && x.Kind() == constant.Int && y.Kind() == constant.Int {
			op = token.QUO_ASSIGN // of integers
		}
		return constant.BinaryOp(x, op, y), nil
	}
	return nil, fmt.Errorf("%T is no expression of constants", e)
}

// listsIn works out the lists of constants that stand in a function, in their order, each as one string.
func listsIn(pkg, name string) (lists []string, err error) {
	s, err := load(pkg)
	if err != nil {
		return nil, err
	}
	f := s.funcs[name]
	if f == nil {
		return nil, fmt.Errorf("there is no function %s.%s", pkg, name)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		list, ok := n.(*ast.CompositeLit)
		if !ok {
			return err == nil
		}
		var all []string
		for _, e := range list.Elts {
			v, evalErr := eval(pkg, e)
			if evalErr != nil {
				err = evalErr
				return false
			}
			all = append(all, v.ExactString())
		}
		lists = append(lists, strings.Join(all, " "))
		return false
	})
	return lists, err
}

var quantityForm = regexp.MustCompile(`^([0-9][0-9,]*)(?:\^([0-9]+))?(?: (\S+))?$`)

// units turn what stands behind a number into what the code counts: bytes, or nanoseconds where a duration is meant.
// Seconds that are not a duration in the code are spelt out.
var units = map[string]int64{
	"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "seconds": 1,
	"ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9, "days": 24 * 3600e9,
}

// quantity reads the value of a cell.
func quantity(cell string) (string, error) {
	if text := strings.Trim(cell, "`"); text != cell {
		return strconv.Quote(text), nil
	}
	m := quantityForm.FindStringSubmatch(cell)
	if m == nil {
		return "", fmt.Errorf("%q is no quantity", cell)
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
	if err != nil {
		return "", err
	}
	if m[2] != "" {
		exponent, err := strconv.Atoi(m[2])
		if err != nil {
			return "", err
		}
		n = int64(math.Pow(float64(n), float64(exponent)))
	}
	unit, ok := units[m[3]]
	if !ok {
		return "", fmt.Errorf("unit %q is not known", m[3])
	}
	return strconv.FormatInt(n*unit, 10), nil
}

// field is one field of a struct as it is encoded.
type field struct {
	key, name string
	optional  bool
}

// fieldsOf lists the encoded fields of a struct, written package.Name, in the order of their keys or places.
func fieldsOf(full string) ([]field, error) {
	pkg, name, ok := strings.Cut(full, ".")
	if !ok {
		return nil, errors.New("it is not written package.Name")
	}
	s, err := load(pkg)
	if err != nil {
		return nil, err
	}
	st, ok := s.types[name].(*ast.StructType)
	if !ok {
		return nil, fmt.Errorf("%s is no struct", full)
	}
	var out []field
	tuple := false
	for _, f := range st.Fields.List {
		tag := ""
		if f.Tag != nil {
			raw, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				return nil, err
			}
			tag = reflect.StructTag(raw).Get("cbor")
		}
		for _, n := range f.Names {
			parts := strings.Split(tag, ",")
			switch {
			case n.Name == "_":
				tuple = slices.Contains(parts, "toarray")
			case parts[0] == "-", !tuple && !slices.Contains(parts, "keyasint"):
			case tuple:
				out = append(out, field{name: n.Name})
			default:
				out = append(out, field{key: parts[0], name: n.Name, optional: slices.Contains(parts, "omitempty")})
			}
		}
	}
	return out, nil
}
