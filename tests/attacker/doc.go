// Package attacker is a gateway that was broken into: a node with a valid WireGuard key that
// speaks every protocol of gw and breaks each of them. It is a black box toward its victims: it
// sends packets and streams, and knows what any peer learns from the packets that it receives.
//
// An [Attacker] runs the real state machines of gw (hello, trunks, the election, the control
// streams) so that its victims accept it and their protocols reach deep states. Beside what those
// machines send it sends mutated copies, replays of what it has received, invented packets of
// each protocol, and streams that break off, flood, or never end.
package attacker
