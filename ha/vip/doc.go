// Package vip answers for the LAN's next hop toward the other sites, the
// address that hosts route by, and announces it when this node takes it over.
//
// The hosts' own packets never carry the address: they only ask for its link
// address. So it is this process that answers (ARP, RFC 826; neighbor
// discovery, RFC 4861), and no process does once it is killed or frozen. An address
// in the kernel would be answered for by a dead gateway's kernel too, for as
// long as it lasts, and then two machines would claim it. That the address can
// be pinged is left to the owner, who gives it to a device that dies with the
// process.
//
// Nothing here moves an address in a cloud, where ARP decides nothing.
package vip
