package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	socketName    = "control.sock"
	referenceName = "control.path" // says where the socket is when the home's path is too long
	privatePrefix = "peerpost-"    // of the temporary directory
)

// maxSocketPath is the longest path in bytes that is used as the address of a
// unix socket: sun_path has 104 on BSD and macOS and 108 on Linux, with the
// terminating zero.
const maxSocketPath = 100

// maxReference bounds what is read of a reference, in bytes: PATH_MAX of Linux.
const maxReference = 4096

// socket is a listening unix socket and what has to be removed with it.
type socket struct {
	net.Listener
	remove []string // files and empty directories, in order
}

// listen opens the control socket of a locked home and removes what an earlier
// process left there.
func listen(l *Lock) (*socket, error) {
	path := filepath.Join(l.Home(), socketName)
	reference := filepath.Join(l.Home(), referenceName)
	if old, err := referenced(l.Home()); err == nil {
		os.Remove(old)
		os.Remove(filepath.Dir(old))
	}
	for _, p := range []string{path, reference} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("removing a stale control socket: %w", err)
		}
	}
	s := &socket{remove: []string{path}}
	if len(path) > maxSocketPath {
		dir, err := privateDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(dir, socketName)
		s.remove = []string{path, dir, reference}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(private)
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		s.clean()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s.Listener = listener
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // clean does it
	if err := os.Chmod(path, 0o600); err != nil {
		s.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if len(s.remove) > 1 {
		if err := os.WriteFile(reference, []byte(path+"\n"), 0o600); err != nil {
			s.Close()
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	return s, nil
}

// privateDir makes a directory with a short path that only we may enter.
func privateDir() (string, error) {
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(parent, privatePrefix)
		if err != nil {
			continue
		}
		if len(filepath.Join(dir, socketName)) <= maxSocketPath {
			return dir, nil
		}
		os.Remove(dir)
	}
	return "", &Error{Code: CodeFailure, Message: "the paths of the home and of the temporary directory are too long for a control socket", Hint: "choose a shorter home with --home"}
}

// Close stops listening and removes the files.
func (s *socket) Close() error {
	err := s.Listener.Close()
	s.clean()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *socket) clean() {
	for _, p := range s.remove {
		os.Remove(p)
	}
}

// find returns the path of the control socket of a home.
func find(home string) (string, error) {
	path := filepath.Join(home, socketName)
	if len(path) <= maxSocketPath {
		return path, nil
	}
	return referenced(home)
}

// referenced follows the reference of a home. The temporary directory must be
// ours alone: in a shared one a stranger may have made it anew after it had
// been cleaned away.
func referenced(home string) (string, error) {
	f, err := os.Open(filepath.Join(home, referenceName))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, maxReference)
	n, err := f.Read(b)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", referenceName, err)
	}
	path := strings.TrimSuffix(string(b[:n]), "\n")
	dir := filepath.Dir(path)
	if !filepath.IsAbs(path) || filepath.Base(path) != socketName || !strings.HasPrefix(filepath.Base(dir), privatePrefix) {
		return "", fmt.Errorf("%s does not name a control socket", referenceName)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || !ours(info) {
		return "", fmt.Errorf("%s is not a private directory of this user", dir)
	}
	return path, nil
}
