// Package capture keeps what a gateway has seen of packets lately, and writes it
// as pcapng. The data path puts the headers of each packet into a Ring, with the
// verdict, at up to four points:
//
//	host ── FromHost ──▶ gateway ── ToLink ──▶ link
//	host ◀── ToHost ──── gateway ◀── FromLink ── link
//
// Readers look at it whenever they like. A Ring never holds a payload, takes a
// fixed amount of memory, and its Put neither allocates nor waits for anybody.
package capture
