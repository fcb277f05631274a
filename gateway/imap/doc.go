// Package imap serves a mailbox to mail clients over IMAP.
package imap
