package mailbox

import (
	"fmt"

	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// migrations lead from each version of the index (PRAGMA user_version) to the
// next. A released one is never changed; a new one is added.
var migrations = []string{
	`
	-- Single values.
	CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;

	-- next is UIDNEXT. The counts are those of the messages in the folder. An id is never used again.
	CREATE TABLE folder(
		id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,
		validity INTEGER NOT NULL UNIQUE, next INTEGER NOT NULL, modseq INTEGER NOT NULL,
		messages INTEGER NOT NULL, unseen INTEGER NOT NULL, deleted INTEGER NOT NULL, size INTEGER NOT NULL,
		subscribed INTEGER NOT NULL);

	-- A message in a folder. flags are sorted, with a space between; sent is a day, internal in Unix seconds.
	CREATE TABLE message(
		folder INTEGER NOT NULL, uid INTEGER NOT NULL, modseq INTEGER NOT NULL, flags TEXT NOT NULL,
		content INTEGER NOT NULL, internal INTEGER NOT NULL, size INTEGER NOT NULL, sent INTEGER NOT NULL,
		PRIMARY KEY(folder, uid)) WITHOUT ROWID;

	-- The UIDs that were expunged at a mod-sequence, as ranges (see ranges.go).
	CREATE TABLE expunged(
		folder INTEGER NOT NULL, modseq INTEGER NOT NULL, uids BLOB NOT NULL,
		PRIMARY KEY(folder, modseq)) WITHOUT ROWID;

	-- The bytes of a message, shared by its copies. name names the file; while ref is set they are in the
	-- journal instead. key is the file key, sealed the size of the age file, size that of the message.
	-- refs counts the messages, and the outbox while it needs the bytes.
	CREATE TABLE content(
		id INTEGER PRIMARY KEY, name BLOB NOT NULL, key BLOB NOT NULL, ref BLOB, sealed INTEGER NOT NULL,
		size INTEGER NOT NULL, refs INTEGER NOT NULL);
	CREATE INDEX content_dead ON content(id) WHERE refs = 0;

	-- What FETCH asks for most, apart from the content so that scans are short.
	CREATE TABLE heading(content INTEGER PRIMARY KEY, envelope BLOB NOT NULL, structure BLOB NOT NULL);
	CREATE TABLE header(content INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

	-- Messages that came in, so that they are filed once. uid 0: refused, for the reason.
	CREATE TABLE mark(
		sender BLOB NOT NULL, id BLOB NOT NULL, expiry INTEGER NOT NULL, uid INTEGER NOT NULL,
		reason TEXT NOT NULL, PRIMARY KEY(sender, id)) WITHOUT ROWID;

	-- Accepted messages. token is the name of the content; open counts the recipients that are not settled;
	-- folder and uid are the Sent copy until a client's own copy has been matched with it.
	CREATE TABLE submission(
		id INTEGER PRIMARY KEY AUTOINCREMENT, token BLOB NOT NULL UNIQUE, content INTEGER NOT NULL,
		envelope BLOB NOT NULL, message_id TEXT NOT NULL, subject TEXT NOT NULL, size INTEGER NOT NULL,
		accepted INTEGER NOT NULL, open INTEGER NOT NULL, folder INTEGER, uid INTEGER);
	CREATE INDEX submission_copy ON submission(message_id) WHERE uid IS NOT NULL;

	-- One row a recipient; see Outgoing. Times in Unix milliseconds.
	CREATE TABLE outgoing(
		id BLOB PRIMARY KEY, submission INTEGER NOT NULL, place INTEGER NOT NULL, local TEXT NOT NULL, root BLOB NOT NULL,
		original TEXT NOT NULL, notify INTEGER NOT NULL, accepted INTEGER NOT NULL, expires INTEGER NOT NULL,
		state INTEGER NOT NULL, replicas INTEGER NOT NULL, wanted INTEGER NOT NULL, attempts INTEGER NOT NULL,
		next INTEGER, last_error TEXT NOT NULL, delay_told INTEGER NOT NULL, failure_told INTEGER NOT NULL,
		sealed BLOB NOT NULL, generation INTEGER NOT NULL, settled INTEGER) WITHOUT ROWID;
	CREATE INDEX outgoing_submission ON outgoing(submission);
	CREATE INDEX outgoing_open ON outgoing(state) WHERE state < 3;

	CREATE TABLE contact(
		root BLOB PRIMARY KEY, name TEXT NOT NULL, local TEXT NOT NULL, added INTEGER NOT NULL,
		updated INTEGER NOT NULL) WITHOUT ROWID;
	CREATE TABLE record(root BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
	CREATE TABLE setting(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

	-- The word index (see mailbox/internal/words). The id of a block is segment << 24 | number. Blocks without
	-- a segment are left-overs.
	CREATE TABLE segment(id INTEGER PRIMARY KEY AUTOINCREMENT, level INTEGER NOT NULL, last INTEGER NOT NULL, docs BLOB NOT NULL);
	CREATE TABLE dict(id INTEGER PRIMARY KEY, words BLOB NOT NULL);
	CREATE TABLE posts(id INTEGER PRIMARY KEY, lists BLOB NOT NULL);
	`,
	`
	-- The last id of a content that is gone. An id is never used again: rows of the outbox, segments and the
	-- state of chores outlive the contents they name.
	INSERT INTO meta(key, value) SELECT 'content', max(
		coalesce((SELECT max(id) FROM content), 0), coalesce((SELECT max(content) FROM submission), 0),
		coalesce((SELECT max(last) FROM segment), 0), coalesce((SELECT value FROM meta WHERE key='indexed'), 0),
		coalesce((SELECT value FROM meta WHERE key='spooled'), 0));
	DELETE FROM meta WHERE key='spooled';
	-- What has its bytes in the journal.
	CREATE INDEX content_logged ON content(id) WHERE ref IS NOT NULL;
	`,
	`
	-- Names that are subscribed and that no folder has any more.
	CREATE TABLE subscription(name TEXT PRIMARY KEY) WITHOUT ROWID;
	`,
}

// migrate brings the index to the newest version.
func migrate(c *pages.Conn, migrations []string) error {
	version, err := c.Int("PRAGMA user_version")
	if err != nil {
		return err
	}
	if version > int64(len(migrations)) {
		return fmt.Errorf("index has version %d; this program knows %d: use a newer one", version, len(migrations))
	}
	for v := version; v < int64(len(migrations)); v++ {
		if err := c.Script("BEGIN IMMEDIATE"); err != nil {
			return err
		}
		err := c.Script(migrations[v])
		if err == nil {
			err = c.Script(fmt.Sprintf("PRAGMA user_version = %d", v+1))
		}
		if err == nil {
			err = c.Script("COMMIT")
		}
		if err != nil {
			if c.InTransaction() {
				_ = c.Script("ROLLBACK")
			}
			return fmt.Errorf("migrate index to version %d: %w", v+1, err)
		}
	}
	return nil
}
