// Package capture keeps what a gateway has seen of recent packets, and writes it as pcapng. The
// data path puts the headers of each packet into a Ring, with the verdict, at up to four points:
//
//	host ── FromHost ──▶ gateway ── ToLink ──▶ link
//	host ◀── ToHost ──── gateway ◀── FromLink ── link
//
// Readers may read at any time. A Ring never holds a payload and has a fixed amount of memory. Its
// Put neither allocates nor waits.
package capture
