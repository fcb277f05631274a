// Package submission takes mail from mail clients over SMTP.
package submission
