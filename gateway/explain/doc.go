// Package explain answers "what happens to this packet, and why": gw trace follows it through the
// nodes on its path, and gw ping tries that path.
//
//	explain.go   what an Explainer needs, its routes, and its task
//	trace.go     one packet, from its source's node to its destination's
//	here.go      what this node does with the packet
//	question.go  what the nodes ask each other, and who is answered what
//	pair.go      a node that stands by asks its active sibling
//	ping.go      link, gateway and port
//
// A packet is judged by the data path's own code (flow.Path.Probe), on a copy of what it knows:
// nothing is sent to a host or to the link.
package explain
