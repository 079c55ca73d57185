// Package pair gives the election of package ha its hands: it carries the
// machines' messages through the tunnels, moves subnets and the LAN's address as
// they decide, keeps the standby's flow table equal to the active node's, and
// tells people about it.
//
// One goroutine, Run, owns both machines. Everything else reaches it by a
// channel, so that nothing on the data path waits for an election.
//
//	pair.go     construction and the loop
//	act.go      what is done when a machine says so
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
