package lab

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Drop makes a namespace lose TCP segments of one port, as if its network card
// did. A capture sees what arrives, and not what would have left.
type Drop struct {
	ns    *Namespace
	table *nftables.Table
}

// Way is a direction of packets as a namespace sees it.
type Way int

// The places where a Drop may work. A sender's kernel knows of what is dropped on its way
// out; what is dropped on its way through another namespace is lost.
const (
	In Way = iota
	Out
	InAndOut
	Through
)

var drops atomic.Int64

// DropTCP drops segments from or to a port. If flags is not 0, only those with
// exactly these flags are dropped; ACK alone is a pure acknowledgement, or bytes
// that are not pushed. The caller calls Lift, or the lab's end makes do.
func (n *Namespace) DropTCP(way Way, port uint16, flags uint8) (*Drop, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.handle)))
	if err != nil {
		return nil, fmt.Errorf("%s: nftables: %w", n.name, err)
	}
	d := &Drop{ns: n, table: c.AddTable(&nftables.Table{
		Family: nftables.TableFamilyINet, Name: fmt.Sprintf("gwlab-drop-%d", drops.Add(1)),
	})}
	c.AddObj(&nftables.CounterObj{Table: d.table, Name: counterDropped})
	for _, hook := range []struct {
		name string
		num  *nftables.ChainHook
		ways []Way
	}{
		{"input", nftables.ChainHookInput, []Way{In, InAndOut}},
		{"output", nftables.ChainHookOutput, []Way{Out, InAndOut}},
		{"forward", nftables.ChainHookForward, []Way{Through}},
	} {
		if !slices.Contains(hook.ways, way) {
			continue
		}
		chain := c.AddChain(&nftables.Chain{
			Table: d.table, Name: hook.name, Type: nftables.ChainTypeFilter,
			Hooknum: hook.num, Priority: nftables.ChainPriorityFilter,
		})
		for _, offset := range []uint32{0, 2} { // of the source port and the destination port
			exprs := []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2, DestRegister: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
			}
			if flags != 0 {
				exprs = append(exprs,
					&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1, DestRegister: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{flags}})
			}
			c.AddRule(&nftables.Rule{Table: d.table, Chain: chain, Exprs: append(exprs,
				counter(counterDropped), &expr.Verdict{Kind: expr.VerdictDrop})})
		}
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("%s: drop TCP port %d: %w", n.name, port, err)
	}
	return d, nil
}

// Count is how many segments have been dropped.
func (d *Drop) Count() (uint64, error) {
	return (&firewall{ns: d.ns, table: d.table}).count(counterDropped)
}

// Lift lets everything pass again.
func (d *Drop) Lift() error {
	c, err := nftables.New(nftables.WithNetNSFd(int(d.ns.handle)))
	if err == nil {
		c.DelTable(d.table)
		err = c.Flush()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: stop dropping TCP: %w", d.ns.name, err)
	}
	return nil
}
