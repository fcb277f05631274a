package control

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An export travels as a tar, one entry a message. What the name and the
// header of an entry cannot say stands in records of its own.
const (
	recordFolder = "PEERPOST.folder"
	recordUID    = "PEERPOST.uid"
	recordFlags  = "PEERPOST.flags" // separated by spaces
)

// exportTrailer is the field that comes after an export: "{}" when it is
// whole, a refusal otherwise.
const exportTrailer = "Peerpost-Export"

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	deadline := http.NewResponseController(w)
	deadline.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Trailer", exportTrailer)

	archive := tar.NewWriter(w)
	n := 0
	err := s.node.Export(r.Context(), account(r), func(m ExportedMessage) error {
		deadline.SetWriteDeadline(time.Now().Add(writeTimeout))
		n++
		err := archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg,
			Name:     strconv.Itoa(n) + ".eml",
			Size:     m.Size,
			Mode:     0o600,
			ModTime:  m.Internal,
			Format:   tar.FormatPAX,
			PAXRecords: map[string]string{
				recordFolder: m.Folder,
				recordUID:    strconv.FormatUint(uint64(m.UID), 10),
				recordFlags:  strings.Join(m.Flags, " "),
			},
		})
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, m.Body)
		return err
	})
	if err == nil {
		err = archive.Close()
	}
	end := failed{}
	if err != nil {
		end.Error = refusal(err)
		s.log.Warn("export failed", "messages", n, "err", err)
	}
	b, err := json.Marshal(end)
	if err != nil {
		b = []byte(err.Error())
	}
	w.Header().Set(exportTrailer, string(b))
}

// readExport calls write for every message of an export and makes sure that
// it is whole. trailer is asked after the body has ended.
func readExport(body io.Reader, trailer func() string, write func(ExportedMessage) error) error {
	archive := tar.NewReader(body)
	for {
		h, err := archive.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if _, e := io.Copy(io.Discard, body); e != nil {
				return fmt.Errorf("the export broke off: %w", e)
			}
			var end failed
			if e := json.Unmarshal([]byte(trailer()), &end); e != nil {
				return fmt.Errorf("the export broke off: %w", e)
			}
			if end.Error != nil {
				return end.Error
			}
			return err
		}
		uid, err := strconv.ParseUint(h.PAXRecords[recordUID], 10, 32)
		if err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		err = write(ExportedMessage{
			Folder:   h.PAXRecords[recordFolder],
			UID:      uint32(uid),
			Flags:    strings.Fields(h.PAXRecords[recordFlags]),
			Internal: h.ModTime,
			Size:     h.Size,
			Body:     archive,
		})
		if err != nil {
			return err
		}
	}
}
