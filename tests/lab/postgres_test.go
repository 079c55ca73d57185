package lab

import (
	"testing"
)

// TestPostgres reaches a server through the firewall by plain wireguard-go.
func TestPostgres(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
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
		t.Error("a wrong statement is no error")
	}
	if err := pg.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
