// Package lab builds the network on which gw is tested, shown and measured: two
// sites in network namespaces, a WAN between them with a one-way firewall, and,
// if asked for, a box in the WAN that delays, drops and reorders.
//
//	red-db ── lan ── red-gw ── wan (router, firewall) [── box ── isp] ── gray-gw ── lan ── gray-db
//	10.77.1.10       198.51.100.2                                203.0.113.10       10.77.2.10
//
// Both families are everywhere. The firewall lets red open connections to gray,
// drops and counts what gray opens toward red, and knows nothing of the overlay.
//
// Besides the network the package holds what a test does on it: processes in a
// namespace ([Namespace.Start]), bulk transfers and other traffic over the
// kernel's TCP ([StartTransfer]), real PostgreSQL servers ([StartPostgres]), plain
// wireguard-go as a peer and as a baseline ([StartWG]), observers
// ([Namespace.Capture], [Namespace.Nstat]), and the checker of the one rule
// ([WatchRepeats]).
//
// All of it needs root. Namespaces are called gwlab-<pid>-<n>-<name> and lie
// where iproute2 looks for them, so that `ip netns exec` helps when a test hangs.
// What a crashed process leaves behind is removed by [Sweep], which every new lab
// calls first.
package lab
