package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// PostgresPort is where the lab's servers listen.
const PostgresPort = 5432

// PostgresConfig sets how a server differs from the lab's usual one, which
// listens on all addresses, trusts the lab's networks, writes its log for logical
// replication, and doesn't wait for the disk.
type PostgresConfig struct {
	// Settings are added to postgresql.conf, unquoted: "wal_sender_timeout": "5s".
	Settings map[string]string
}

// Postgres is a running server with an empty cluster of its own.
type Postgres struct {
	// Proc is the postmaster.
	*Proc
	ns  *Namespace
	dir string
}

// findPostgres looks for the newest installed server's programs.
var findPostgres = sync.OnceValues(func() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(dir string) int {
		// What isn't a number sorts first.
		v, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return v
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, "initdb")); err == nil {
			return d, nil
		}
	}
	return "", errors.New("no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
})

// postgresUser is who the servers run as; they refuse to run as root.
func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("look up the user of PostgreSQL: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

var template struct {
	sync.Mutex
	dir string
}

// postgresTemplate is a fresh cluster, made once in a process, because initdb
// takes a second and a copy of what it makes takes none.
func postgresTemplate(bin string, as *syscall.Credential) (string, error) {
	template.Lock()
	defer template.Unlock()
	if template.dir != "" {
		return template.dir, nil
	}
	base, err := scratch()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.RemoveAll(dir))
	}
	template.dir = dir
	return dir, nil
}

// StartPostgres starts a server in the namespace and returns when it accepts
// connections. It ends with the lab.
func StartPostgres(ctx context.Context, l *Lab, n *Namespace, c PostgresConfig) (*Postgres, error) {
	pg := &Postgres{ns: n, dir: filepath.Join(l.Dir, "postgres-"+n.name)}
	if err := pg.start(ctx, l, c); err != nil {
		return nil, fmt.Errorf("%s: PostgreSQL: %w", n.name, err)
	}
	return pg, nil
}

func (pg *Postgres) start(ctx context.Context, l *Lab, c PostgresConfig) error {
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	as, err := postgresUser()
	if err != nil {
		return err
	}
	from, err := postgresTemplate(bin, as)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, pg.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the cluster: %w: %s", err, out)
	}
	settings := map[string]string{
		"listen_addresses":        "'*'",
		"port":                    strconv.Itoa(PostgresPort),
		"unix_socket_directories": "'" + pg.dir + "'",
		"wal_level":               "logical",
		"fsync":                   "off",
		"full_page_writes":        "off",
		"max_connections":         "300",
		"max_wal_senders":         "20",
		"max_replication_slots":   "20",
		// A subscription that has lost its publisher retries soon.
		"wal_retrieve_retry_interval": "'200ms'",
	}
	for k, v := range c.Settings {
		settings[k] = v
	}
	var conf, hba strings.Builder
	for k, v := range settings {
		fmt.Fprintf(&conf, "%s = %s\n", k, v)
	}
	for _, subnet := range slices.Concat(l.Red.Subnets, l.Gray.Subnets) {
		for _, db := range []string{"all", "replication"} {
			fmt.Fprintf(&hba, "host %s all %s trust\n", db, subnet)
		}
	}
	if err := errors.Join(
		appendFile(filepath.Join(pg.dir, "postgresql.conf"), conf.String()),
		appendFile(filepath.Join(pg.dir, "pg_hba.conf"), hba.String()),
	); err != nil {
		return err
	}
	return pg.launch(ctx, bin, as, "database system is ready to accept connections")
}

// launch starts the server on its directory and waits until it reports that it is
// ready.
func (pg *Postgres) launch(ctx context.Context, bin string, as *syscall.Credential, ready string) (err error) {
	pg.Proc, err = pg.ns.Start(ctx, Spec{
		Name: filepath.Base(pg.dir), Args: []string{filepath.Join(bin, "postgres"), "-D", pg.dir}, Dir: pg.dir, Credential: as,
	})
	if err != nil {
		return err
	}
	if err := pg.Saw(ctx, ready); err != nil {
		return errors.Join(err, pg.Kill())
	}
	return nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Shutdown ends the server in fast mode: transactions are rolled back, and the
// data are left in order.
func (pg *Postgres) Shutdown(ctx context.Context) error {
	if err := pg.Signal(os.Interrupt); err != nil {
		return err
	}
	return pg.Wait(ctx)
}

// DSN is how a client in the lab reaches the server at addr, for [SQL],
// [Pgbench] and CREATE SUBSCRIPTION.
func DSN(addr netip.Addr, database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s connect_timeout=10", addr, PostgresPort, database)
}

// LocalDSN is how a client on the server's own host reaches it, by its socket.
func (pg *Postgres) LocalDSN(database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", pg.dir, PostgresPort, database)
}

// SQL runs statements in database by the server's socket.
func (pg *Postgres) SQL(ctx context.Context, database, statements string) (string, error) {
	return SQL(ctx, pg.ns, pg.LocalDSN(database), statements)
}

// SQL runs statements with psql from a namespace. It returns the rows, one a
// line, columns separated by "|". The first failing statement ends it. Statements
// that refuse to run inside a transaction work, because each is sent alone.
func SQL(ctx context.Context, from *Namespace, dsn, statements string) (string, error) {
	bin, err := findPostgres()
	if err != nil {
		return "", err
	}
	cmd := from.Command(ctx, filepath.Join(bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn)
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.Output()
	return strings.TrimSuffix(string(out), "\n"), err
}

// PgbenchResult is what pgbench has reported.
type PgbenchResult struct {
	// TPS is transactions per second, without the time to connect.
	TPS float64
	// Transactions were made; Failed were not, for errors of serialization or
	// deadlocks. Any other error ends pgbench's client and is Pgbench's error.
	Transactions, Failed int64
	// Latency is the mean of a transaction.
	Latency time.Duration
}

// Pgbench runs pgbench from a namespace with arguments such as "-i", "-s", "10",
// or "-S", "-c", "8", "-T", "5".
func Pgbench(ctx context.Context, from *Namespace, dsn string, args ...string) (PgbenchResult, error) {
	bin, err := findPostgres()
	if err != nil {
		return PgbenchResult{}, err
	}
	out, err := from.Command(ctx, filepath.Join(bin, "pgbench"), append(args, dsn)...).Output()
	if err != nil {
		return PgbenchResult{}, err
	}
	return parsePgbench(string(out))
}

var (
	pgbenchTPS     = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	pgbenchDone    = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed  = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	pgbenchLatency = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
)

// parsePgbench reads a report; with -i there is none, and the result is zero.
func parsePgbench(out string) (r PgbenchResult, err error) {
	number := func(re *regexp.Regexp) float64 {
		m := re.FindStringSubmatch(out)
		if m == nil || err != nil {
			return 0
		}
		var v float64
		v, err = strconv.ParseFloat(m[1], 64)
		return v
	}
	r.TPS = number(pgbenchTPS)
	r.Transactions, r.Failed = int64(number(pgbenchDone)), int64(number(pgbenchFailed))
	r.Latency = time.Duration(number(pgbenchLatency) * float64(time.Millisecond))
	if err != nil {
		return r, fmt.Errorf("read pgbench's report: %w\n%s", err, out)
	}
	return r, nil
}
