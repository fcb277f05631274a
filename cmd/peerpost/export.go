package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) exportCommand() *cobra.Command {
	var q query
	var output string
	var asMbox bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write out the mail of an account",
		Long: `Write out the mail of an account, to standard output or a file: a tar of Maildir
folders with flags and dates, or with --mbox one mbox file, in which every
message names its folder in an X-Folder field. What is written is not encrypted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := terminal(m.Stdout); ok && output == "" && !asMbox {
				return &usageError{errors.New("a tar does not belong on a terminal"), "name a file with --output, or redirect the output"}
			}
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return m.writeTo(output, func(w io.Writer) error {
				buffered := bufio.NewWriterSize(w, 1<<20)
				var out exporter = &mboxExport{w: buffered}
				if !asMbox {
					out = &maildirExport{w: tar.NewWriter(buffered), folders: make(map[string]bool)}
				}
				p := m.progress()
				defer p.end()
				messages, bytes := 0, int64(0)
				err := m.unlocked(cmd.Context(), c, q.account, q.passwordFile, func() error {
					return c.Export(cmd.Context(), q.account, func(e control.ExportedMessage) error {
						messages++
						bytes += e.Size
						p.set("%s, %s, %s", plural(messages, "message"), size(bytes), e.Folder)
						return out.add(e)
					})
				})
				if err != nil {
					return err
				}
				return errors.Join(out.end(), buffered.Flush())
			})
		},
	}
	cmd.Flags().BoolVar(&asMbox, "mbox", false, "write one mbox file")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write to")
	q.accountFlag(cmd)
	q.unlockFlag(cmd)
	return cmd
}

// writeTo calls write for standard output or for a file, which appears under
// its name when it is whole and only its owner may read.
func (m *Main) writeTo(file string, write func(io.Writer) error) (err error) {
	if file == "" {
		return write(m.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".peerpost-export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// exporter is a form in which mail is written out.
type exporter interface {
	add(control.ExportedMessage) error
	end() error
}

// mboxExport writes an mbox of the "rd" kind: lines that begin with any
// number of > and "From " get one > more, which a reader takes away.
type mboxExport struct {
	w *bufio.Writer
}

func (x *mboxExport) add(m control.ExportedMessage) error {
	fmt.Fprintf(x.w, "From peerpost@localhost %s\n", m.Internal.UTC().Format(time.ANSIC))
	fmt.Fprintf(x.w, "X-Folder: %s\n", line(m.Folder))
	if slices.ContainsFunc(m.Flags, func(f string) bool { return strings.EqualFold(f, `\Seen`) }) {
		x.w.WriteString("Status: RO\n")
	}
	in := bufio.NewReader(m.Body)
	for {
		text, err := in.ReadBytes('\n') // no longer than the message
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(text) > 0 {
			if bytes.HasPrefix(bytes.TrimLeft(text, ">"), []byte("From ")) {
				x.w.WriteByte('>')
			}
			x.w.Write(bytes.TrimRight(text, "\r\n"))
			x.w.WriteByte('\n')
		}
		if err != nil {
			break
		}
	}
	return x.w.WriteByte('\n') // which tells an error of any write before
}

func (x *mboxExport) end() error { return nil }

// maildirExport writes a tar in which every folder is a Maildir.
type maildirExport struct {
	w        *tar.Writer
	folders  map[string]bool // whose directories are written
	messages int
}

func (x *maildirExport) add(m control.ExportedMessage) error {
	folder := maildirPath(m.Folder)
	if !x.folders[folder] {
		x.folders[folder] = true
		for _, sub := range []string{"", "cur/", "new/", "tmp/"} {
			h := tar.Header{Typeflag: tar.TypeDir, Name: folder + "/" + sub, Mode: 0o700, ModTime: m.Internal}
			if err := x.w.WriteHeader(&h); err != nil {
				return err
			}
		}
	}
	x.messages++
	h := tar.Header{
		Typeflag: tar.TypeReg,
		Name:     fmt.Sprintf("%s/cur/%d.%d.peerpost:2,%s", folder, m.Internal.Unix(), x.messages, maildirFlags(m.Flags)),
		Mode:     0o600,
		Size:     m.Size,
		ModTime:  m.Internal,
	}
	if err := x.w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := io.Copy(x.w, m.Body)
	return err
}

func (x *maildirExport) end() error { return x.w.Close() }

// maildirPath makes the name of a folder a path that stays where it is
// unpacked and meets none of Maildir's own directories.
func maildirPath(folder string) string {
	parts := strings.Split(folder, "/")
	for i, p := range parts {
		p = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) || strings.ContainsRune(`\:*?"<>|`, r) {
				return '_'
			}
			return r
		}, p)
		if p == "" || p[0] == '.' || p == "cur" || p == "new" || p == "tmp" {
			p = "_" + p
		}
		parts[i] = p
	}
	return strings.Join(parts, "/")
}

// maildirFlags spells flags as Maildir does: letters in order.
func maildirFlags(flags []string) string {
	var letters []string
	for _, f := range flags {
		switch strings.ToLower(f) {
		case `\draft`:
			letters = append(letters, "D")
		case `\flagged`:
			letters = append(letters, "F")
		case "$forwarded":
			letters = append(letters, "P")
		case `\answered`:
			letters = append(letters, "R")
		case `\seen`:
			letters = append(letters, "S")
		case `\deleted`:
			letters = append(letters, "T")
		}
	}
	slices.Sort(letters)
	return strings.Join(slices.Compact(letters), "")
}
