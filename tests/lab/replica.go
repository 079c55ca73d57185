package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// StartStandby copies the server at primary with pg_basebackup, over the network,
// and starts a standby from the copy that streams from the same address. It
// returns when the standby answers queries. It ends with the lab.
func StartStandby(ctx context.Context, l *Lab, n *Namespace, primary netip.Addr) (*Postgres, error) {
	pg := &Postgres{ns: n, dir: filepath.Join(l.Dir, "standby-"+n.name)}
	if err := pg.follow(ctx, primary); err != nil {
		return nil, fmt.Errorf("%s: standby of %s: %w", n.name, primary, err)
	}
	return pg, nil
}

func (pg *Postgres) follow(ctx context.Context, primary netip.Addr) error {
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	as, err := postgresUser()
	if err != nil {
		return err
	}
	copied := pg.ns.Command(ctx, filepath.Join(bin, "pg_basebackup"), "-D", pg.dir, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", DSN(primary, "postgres"))
	copied.Dir = "/"
	if _, err := copied.Output(); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(pg.dir, "postgresql.conf"), "unix_socket_directories = '"+pg.dir+"'\n"); err != nil {
		return err
	}
	// The primary keeps its sockets in its directory, and their locks come along.
	if err := os.Remove(filepath.Join(pg.dir, fmt.Sprintf(".s.PGSQL.%d.lock", PostgresPort))); err != nil {
		return err
	}
	// The copy belongs to root, as whom the command has run.
	owner := fmt.Sprintf("%d:%d", as.Uid, as.Gid)
	if out, err := exec.CommandContext(ctx, "chown", "-R", owner, pg.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("give the copy to its server: %w: %s", err, out)
	}
	return pg.launch(ctx, bin, as, "database system is ready to accept read-only connections")
}

// Await waits, inside the server, until an SQL condition holds.
func (pg *Postgres) Await(ctx context.Context, database, condition string) error {
	// The commit lets go of the snapshot, for which a standby would hold up its
	// replay, and of the statistics that a transaction has once seen.
	_, err := pg.SQL(ctx, database, "do $$ begin while not ("+condition+") loop commit; perform pg_sleep(0.02); end loop; end $$")
	if err != nil {
		return fmt.Errorf("wait until %s: %w", condition, errors.Join(context.Cause(ctx), err))
	}
	return nil
}

// AwaitReplicas waits until all that replicate from the server have, and have
// confirmed, what was committed in the database before the call. It returns the
// position up to which that is.
func (pg *Postgres) AwaitReplicas(ctx context.Context, database string) (lsn string, err error) {
	// A transaction of its own, because its commit is flushed: the end of the log
	// may lie in a record that the server is in no hurry to complete.
	lsn, err = pg.SQL(ctx, database, "select pg_logical_emit_message(true, 'lab', 'all of it')")
	if err != nil {
		return "", err
	}
	return lsn, pg.Await(ctx, database, "(select count(*) > 0 and bool_and(replay_lsn >= '"+lsn+"') from pg_stat_replication)")
}

// Digest is how many rows a table has, and a checksum of all of them that does
// not depend on where they lie.
func (pg *Postgres) Digest(ctx context.Context, database, table string) (rows, sum string, err error) {
	out, err := pg.SQL(ctx, database, "select count(*), md5(string_agg(md5(t::text), '' order by t::text)) from "+table+" t")
	rows, sum, _ = strings.Cut(out, "|")
	return rows, sum, err
}
