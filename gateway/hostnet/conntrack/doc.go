// Package conntrack deals with the connection tracking of the host's kernel (nf_conntrack). It sees
// the connections that a gateway carries as soon as a firewall on the host looks at states.
//
// The kernel follows the sequence numbers and windows of each TCP connection and calls packets
// outside of them invalid; stock firewalls drop such packets. The kernel of a standby sees none of
// the site's packets. When the role comes back to a node, its kernel still has the windows of the
// time before and would call everything invalid until the connections time out.
//
// The [Keeper] therefore marks the entries of the site's connections as liberal, which is how the
// kernel itself marks a connection that it did not see begin: it keeps the state, and no longer
// judges windows. Two other ways were not chosen. Packets without tracking match no rule that
// accepts established connections, and a connection whose entry was deleted is new to the next
// packet, in whichever direction that goes: either would drop traffic where rules accept new
// connections in one direction only.
//
// Everything acts on the network namespace of the calling thread.
package conntrack
