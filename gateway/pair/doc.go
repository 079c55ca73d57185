// Package pair carries out the decisions of the election in package ha: it sends the
// machines' messages through the tunnels, moves subnets and the LAN's address as
// they decide, keeps the standby's flow table equal to the active node's, and
// shows its state.
//
// One goroutine, Run, owns both machines. Everything else reaches it by a
// channel, so that nothing on the data path waits for an election.
//
//	pair.go     construction and the loop
//	act.go      carries out the machines' outputs
//	auth.go     how siblings recognize each other's statements that others carry
//	records.go  the flow table's records, to and from the sibling
//	command.go  on_active and on_standby
//	unsaved.go  an epoch that could not be stored
//	lanmac.go   the siblings' link addresses on the LAN
//	view.go     snapshots, and what operators ask for
//
// A node without a sibling has a Pair too when another site has one: it is a
// witness, and follows that site's claims.
package pair
