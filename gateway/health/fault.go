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
	// Stuck: packets wait, and this process makes no progress.
	Stuck Fault = "stuck"
	// NotForwarding: the kernel does not forward between the LAN and the TUN device.
	NotForwarding Fault = "not-forwarding"
	// AddressTaken: another host answers for the LAN address of the pair.
	AddressTaken Fault = "address-taken"
)

// known lists all faults, with the part that each disables.
var known = []struct {
	fault Fault
	part  Part
}{
	{LANDown, LAN}, {LANSilent, LAN}, {DeviceDown, Plane}, {Stuck, Plane}, {NotForwarding, Plane},
	{AddressTaken, None},
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
