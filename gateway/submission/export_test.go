package submission

import "time"

// The tests do not wait for real after a wrong password.
func (s *Server) SetFailureTime(d time.Duration) { s.failureTime = d }

// FreeMemory is what is left of Config.MaxMemory.
func (s *Server) FreeMemory() int64 {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.free
}

// Open is how many connections are counted, and how many of them by account.
func (s *Server) Open() (conns, loggedIn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.accounts {
		loggedIn += n
	}
	return len(s.conns), loggedIn
}

const (
	LoginTime     = loginTime
	IdleTime      = idleTime
	HandshakeTime = handshakeTime
	FailureTime   = failureTime
	MinRate       = minRate
	MaxLine       = maxLine
)
