package lab

import (
	"context"
	"errors"
	"testing"
	"time"
)

// postgresCtx leaves a busy machine time for initdb, which needs most of what
// other tests get as a whole.
func postgresCtx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestPostgres reaches a server through the firewall by plain wireguard-go.
func TestPostgres(t *testing.T) {
	l := Start(t, Config{})
	ctx := postgresCtx(t)
	if _, _, err := StartPlainTunnel(ctx, l); err != nil {
		t.Fatal(err)
	}
	red, gray := l.Red.DB(), l.Gray.DB()
	pg, err := StartPostgres(ctx, l, red.Namespace, PostgresConfig{Settings: map[string]string{"work_mem": "5MB"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pg.SQL(ctx, "postgres", "create database shop; show wal_level; show work_mem"); err != nil || got != "logical\n5MB" {
		t.Errorf("settings: %q, %v", got, err)
	}
	for _, addr := range red.Addrs() {
		got, err := SQL(ctx, gray.Namespace, DSN(addr, "shop"), "select inet_client_addr()")
		want := gray.LAN4
		if addr.Is6() {
			want = gray.LAN6
		}
		if err != nil || got != want.String() {
			t.Errorf("the client at %s is seen as %q, %v", want, got, err)
		}
	}
	dsn := DSN(red.LAN4, "shop")
	if _, err := Pgbench(ctx, gray.Namespace, dsn, "-i", "-q", "-s", "1"); err != nil {
		t.Fatal(err)
	}
	res, err := Pgbench(ctx, gray.Namespace, dsn, "-n", "-S", "-c", "4", "-t", "100")
	if err != nil || res.Transactions != 400 || res.Failed != 0 || res.TPS < 10 || res.Latency == 0 {
		t.Errorf("pgbench: %+v, %v", res, err)
	}
	if _, err := SQL(ctx, gray.Namespace, dsn, "select 1; select broken"); err == nil {
		t.Error("a wrong statement returned no error")
	}
	replicates(t, pg, l)
	if err := pg.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// replicates has gray's server subscribe to red's: the dial that the firewall
// forbids outside the tunnel.
func replicates(t *testing.T, red *Postgres, l *Lab) {
	t.Helper()
	ctx := postgresCtx(t)
	gray, err := StartPostgres(ctx, l, l.Gray.DB().Namespace, PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const table = "create table goods (name text primary key);"
	_, err1 := red.SQL(ctx, "postgres", table+"create publication goods for table goods; insert into goods values ('tea')")
	_, err2 := gray.SQL(ctx, "postgres", table+"create subscription goods connection '"+DSN(l.Red.DB().LAN6, "postgres")+"' publication goods")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := Until(ctx, "the row to be replicated", func() (bool, error) {
		got, err := gray.SQL(ctx, "postgres", "select name from goods")
		return got == "tea", err
	}); err != nil {
		t.Error(err)
	}
}
