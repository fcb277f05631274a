package mailbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// Export writes all messages as one mbox file (the "mboxrd" kind, RFC 4155),
// folder by folder. What mbox cannot say stands in a header field: X-Folder,
// and Status, X-Status and X-Keywords as other programs write them. progress
// may be nil.
func (m *Mailbox) Export(ctx context.Context, w io.Writer, progress func(done, total int)) error {
	folders, err := m.Folders(ctx)
	if err != nil {
		return err
	}
	total, done := 0, 0
	for _, f := range folders {
		total += int(f.Messages)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for _, f := range folders {
		view, err := m.View(ctx, f.ID)
		if errors.Is(err, mail.ErrNoFolder) {
			continue
		}
		if err != nil {
			return err
		}
		err = m.Messages(ctx, f.ID, view.UIDs, mail.Want{}, func(x *mail.Message) error {
			err := m.exportMessage(ctx, out, f, x)
			if errors.Is(err, mail.ErrNoMessage) {
				err = nil // expunged meanwhile
			}
			if done++; progress != nil && err == nil {
				progress(done, total)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

func (m *Mailbox) exportMessage(ctx context.Context, out *bufio.Writer, f mail.Folder, x *mail.Message) error {
	b, err := m.Body(ctx, f.ID, x.UID)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	fmt.Fprintf(out, "From MAILER-DAEMON %s\n", x.Internal.UTC().Format(time.ANSIC))
	fmt.Fprintf(out, "X-Folder: %s\n", f.Name)
	writeStatus(out, x.Flags)
	if err := writeQuoted(out, bufio.NewReaderSize(contextReader{ctx, io.NewSectionReader(b, 0, b.Size())}, 64<<10)); err != nil {
		return fmt.Errorf("export message %d of %s: %w", x.UID, f.Name, err)
	}
	_, err = out.WriteString("\n")
	return err
}

// writeStatus writes flags as mail programs have done in mbox files since Pine.
func writeStatus(out *bufio.Writer, flags []mail.Flag) {
	status, more := "O", ""
	var keywords []string
	for _, f := range flags {
		switch f {
		case mail.Seen:
			status = "RO"
		case mail.Answered:
			more += "A"
		case mail.Flagged:
			more += "F"
		case mail.Draft:
			more += "T"
		case mail.Deleted:
			more += "D"
		default:
			keywords = append(keywords, string(f))
		}
	}
	fmt.Fprintf(out, "Status: %s\n", status)
	if more != "" {
		fmt.Fprintf(out, "X-Status: %s\n", more)
	}
	if len(keywords) > 0 {
		slices.Sort(keywords)
		fmt.Fprintf(out, "X-Keywords: %s\n", strings.Join(keywords, " "))
	}
}

// writeQuoted writes a message with LF line ends. A line that begins with
// "From ", after any number of ">", gets one ">" more.
func writeQuoted(out *bufio.Writer, in *bufio.Reader) error {
	begin := true // of a line
	for {
		line, err := in.ReadSlice('\n')
		if n := len(line); errors.Is(err, bufio.ErrBufferFull) && line[n-1] == '\r' && in.UnreadByte() == nil {
			line = line[:n-1] // its LF may come next
		}
		if begin && len(line) > 0 {
			rest := line
			for len(rest) > 0 && rest[0] == '>' {
				rest = rest[1:]
			}
			if strings.HasPrefix(string(rest[:min(len(rest), 5)]), "From ") {
				if err := out.WriteByte('>'); err != nil {
					return err
				}
			}
		}
		if n := len(line); n >= 2 && line[n-1] == '\n' && line[n-2] == '\r' {
			line = append(line[:n-2], '\n')
		}
		if len(line) > 0 {
			begin = line[len(line)-1] == '\n'
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		switch {
		case errors.Is(err, io.EOF):
			if !begin {
				return out.WriteByte('\n')
			}
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
