package mail

import "context"

// Revocable is what a login gives that may end before the client goes.
type Revocable interface {
	// Granted ends when the password that the login was made with is removed.
	// Nothing more is done for the client then, and it is cut off.
	Granted() context.Context
}
