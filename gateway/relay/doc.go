// Package relay joins the flow table, the legs and the trunks: a connection that moves bulk over a
// WAN is carried by a leg at each gateway and by a trunk between them.
//
//	relayer.go  begins and ends relays, and acts on what happens to nodes
//	measure.go  measures the paths to other nodes, and keeps trunks to those that the Board names
//	status.go   what status shows
//
// When a connection is relayed, two packages decide: flow by what the connection does, and sites by
// what its path is like.
package relay
