package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	counterRefused = "refused"
	counterOpened  = "opened"
	counterDropped = "dropped" // of a Drop
)

// firewall is the one-way rule in the WAN router.
type firewall struct {
	ns    *Namespace
	table *nftables.Table
}

// newFirewall forwards what belongs to a known connection, lets new ones come in
// by the interface open, drops and counts everything else that comes in by shut,
// and drops the rest.
func newFirewall(ns *Namespace, open, shut string, sourceNAT bool) (*firewall, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.handle)))
	if err != nil {
		return nil, fmt.Errorf("%s: nftables: %w", ns.name, err)
	}
	drop := nftables.ChainPolicyDrop
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "gwlab"})
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	for _, name := range []string{counterRefused, counterOpened} {
		c.AddObj(&nftables.CounterObj{Table: t, Name: name})
	}
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	for _, exprs := range [][]expr.Any{
		append(stateIs(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept),
		append(append(cameBy(open), stateIs(expr.CtStateBitNEW)...), counter(counterOpened), accept),
		append(cameBy(shut), counter(counterRefused), &expr.Verdict{Kind: expr.VerdictDrop}),
	} {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
	if sourceNAT {
		nat := c.AddChain(&nftables.Chain{
			Table: t, Name: "postrouting", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: nat, Exprs: append(leavesBy(shut), &expr.Masq{})})
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("%s: load the firewall's rules (does the kernel have nf_tables and conntrack?): %w", ns.name, err)
	}
	return &firewall{ns: ns, table: t}, nil
}

// count reads a counter, in packets.
func (f *firewall) count(name string) (uint64, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(f.ns.handle)))
	if err != nil {
		return 0, fmt.Errorf("%s: nftables: %w", f.ns.name, err)
	}
	// Asking for one object by name dumps the whole table with this library.
	objs, err := c.GetObjects(f.table)
	if err != nil {
		return 0, fmt.Errorf("%s: read the firewall's counter %q: %w", f.ns.name, name, err)
	}
	for _, o := range objs {
		if obj, ok := o.(*nftables.CounterObj); ok && obj.Name == name {
			return obj.Packets, nil
		}
	}
	return 0, fmt.Errorf("%s: the firewall's counter %q is gone: its rules were changed", f.ns.name, name)
}

func counter(name string) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}
}

func stateIs(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func cameBy(ifname string) []expr.Any   { return interfaceIs(expr.MetaKeyIIFNAME, ifname) }
func leavesBy(ifname string) []expr.Any { return interfaceIs(expr.MetaKeyOIFNAME, ifname) }

func interfaceIs(key expr.MetaKey, ifname string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ifname)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}
