// Package control is the unix socket by which the commands of the same machine talk to a running gateway: HTTP with JSON bodies,
// versioned by the first part of the path. Whoever may open the socket may ask and order everything, so it belongs to its owner
// alone (mode 0600).
//
//	GET /v1/status                          status.Status
//	GET /v1/conns?order=bytes|age&limit=n   status.ConnList
//	GET /v1/trace?source=&destination=&proto=tcp|udp|icmp&size=n
//	                                        status.Trace
//	GET /v1/packets?flow=                   status.Packet, a line each, from now on, until the client leaves
//	GET /v1/capture?flow=&last=60s          a pcapng file; without last, of what comes from now on, as above
//	GET /v1/ha                              status.HA
//	POST /v1/ha/drain?force=true|false      status.Failover, when it is over
//	POST /v1/ha/failover                    status.Failover, when it is over
//	POST /v1/ha/test                        status.HATest
//
// What is ordered has to be over within the 30 seconds that an answer may take.
//
// An error is an HTTP status of 400 or more with the body {"error": "…"}.
package control
