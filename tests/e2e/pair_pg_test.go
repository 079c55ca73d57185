package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// TestPairPostgres: logical replication one way and physical the other way, and
// pgbench at the far site of each, while the active nodes of both sites are
// killed in turn.
func TestPairPostgres(t *testing.T) { pairPostgres(t, modeRoute, 2, 3*time.Second) }

func pairPostgres(t *testing.T, mode string, kills int, pause time.Duration) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, grayDatabases: 2, redDatabases: 2, mode: mode})
	n.start()
	plain := &network{Lab: n.Lab}
	logical := n.replicates(t, "logical")
	from, to := n.Gray.Databases[1], n.Red.Databases[1]
	physical := &bank{
		name: "physical", primary: plain.pgServer(t, from), writer: to,
		writes: from.LAN4, follows: from.LAN6, subscriber: to.LAN6,
	}
	sql(t, physical.primary, "postgres", "create database "+physical.name)
	physical.pgbench(t, physical.primary, from, "-i", "-q", "-s", "1")
	var err error
	if physical.replica, err = lab.StartStandby(t.Context(), n.Lab, to.Namespace, physical.follows); err != nil {
		t.Fatal(err)
	}
	banks := []*bank{logical, physical}

	g := n.watch(t)
	others := []*watch{startWatch(t, from), startWatch(t, to)}
	for _, b := range banks {
		b.replicates = b.connection(t)
	}
	var through atomic.Bool
	var writing sync.WaitGroup
	for _, b := range banks {
		writing.Go(func() { b.write(t, &through) })
	}
	defer writing.Wait() // also when a kill has failed the test
	defer through.Store(true)
	for i := range kills {
		site := [][]*node{n.red, n.gray}[i%2]
		next := time.After(pause)
		advance(t, banks)
		<-next // the pace of the killer
		dead, _ := active(t, site)
		dead.kill()
		killed := time.Now()
		advance(t, banks)
		t.Logf("%s was killed, and %d transactions later both replicas are %v on", dead.name, pgProgress, time.Since(killed).Round(time.Millisecond))
		dead.up()
		n.settled(site)
	}
	through.Store(true)
	writing.Wait()
	for _, b := range banks {
		b.equal(t)
	}
	for _, w := range others {
		w.noResets(t)
	}
	g.end(t, (kills+1)/2, kills/2)
}

// replicates starts PostgreSQL at red and gray, gray following red by logical replication.
func (n *pairNetwork) replicates(t *testing.T, name string) *bank {
	t.Helper()
	plain := &network{Lab: n.Lab}
	red, gray := n.Red.DB(), n.Gray.DB()
	b := &bank{
		name: name, primary: plain.pgServer(t, red), replica: plain.pgServer(t, gray),
		writer: gray, writes: red.LAN6, follows: red.LAN4, subscriber: gray.LAN4,
	}
	for _, pg := range []*lab.Postgres{b.primary, b.replica} {
		sql(t, pg, "postgres", "create database "+b.name)
	}
	b.pgbench(t, b.primary, red, "-i", "-q", "-s", "1")
	b.pgbench(t, b.replica, gray, "-i", "-q", "-I", "dtp")
	sql(t, b.primary, b.name, "create publication bank for all tables")
	sql(t, b.replica, b.name, fmt.Sprintf("create subscription bank connection '%s' publication bank", lab.DSN(b.follows, b.name)))
	if err := b.replica.Await(t.Context(), b.name, "not exists (select from pg_subscription_rel where srsubstate <> 'r')"); err != nil {
		t.Fatal(err)
	}
	return b
}
