package health

// The faults. Each has one row in known, one in the table of docs/operations.md, and an alert in
// configs/alerts.yml.
const (
	// LANDown: the interface toward the site's hosts is absent or down.
	LANDown Fault = "lan-down"
	// LANSilent: the interface is up, and no host of the LAN that has flows answers.
	LANSilent Fault = "lan-silent"
	// DeviceDown: the TUN device is absent or down.
	DeviceDown Fault = "device-down"
	// DeviceRefuses: the kernel refuses what this node writes to the TUN device.
	DeviceRefuses Fault = "device-refuses"
	// Stuck: packets wait, and this process makes no progress.
	Stuck Fault = "stuck"
	// HostChanged: an address, a route or a rule of gw is missing and cannot be restored.
	HostChanged Fault = "host-changed"
	// NotForwarding: the kernel does not forward between the LAN and the TUN device.
	NotForwarding Fault = "not-forwarding"
	// TableFull: the kernel's connection tracking drops new connections.
	TableFull Fault = "conntrack-full"
	// AddressTaken: another host answers for the LAN address of the pair.
	AddressTaken Fault = "address-taken"
)

// known lists all faults, with the part that each disables.
var known = []struct {
	fault Fault
	part  Part
}{
	{LANDown, LAN}, {LANSilent, LAN}, {DeviceDown, Plane}, {DeviceRefuses, Plane}, {Stuck, Plane},
	{HostChanged, Plane}, {NotForwarding, Plane}, {TableFull, Plane}, {AddressTaken, None},
}

// Known lists all faults.
func Known() []Fault {
	out := make([]Fault, 0, len(known))
	for _, k := range known {
		out = append(out, k.fault)
	}
	return out
}

// PartOf returns the part that a fault disables.
func PartOf(f Fault) Part {
	for _, k := range known {
		if k.fault == f {
			return k.part
		}
	}
	panic("health: the fault " + string(f) + " has no row")
}
