// Package control is the unix socket over which the commands on this machine talk to a running
// gateway: HTTP with JSON bodies, versioned by the first part of the path. A user who can open the
// socket can order everything, so the socket belongs to its owner alone (mode 0600).
//
// The packages that answer hand their routes to Server.Handle before Run. These are all of them:
//
//	GET /v1/status                          status.Status
//	GET /v1/conns?order=bytes|age&limit=n   status.ConnList
//	GET /v1/trace?source=&destination=&proto=tcp|udp|icmp&size=n
//	                                        status.Trace
//	GET /v1/ping?target=&port=n&count=n     doctor.Pings; port 0 leaves the port out
//	GET /v1/doctor                          doctor.Report
//	GET /v1/packets?flow=                   status.Packet, one a line, live, until the client leaves
//	GET /v1/capture?flow=&last=60s          a pcapng file; without last, live, until the client leaves
//	GET /v1/ha                              status.HA
//	POST /v1/ha/drain?force=true|false      status.Failover, when it is over
//	POST /v1/ha/failover                    status.Failover, when it is over
//	POST /v1/ha/test                        status.HATest
//	POST /v1/plan                           status.Plan; the body is a list of File
//	POST /v1/reload                         status.Reload
//
// An order must be over within 30 seconds: then the answer times out.
//
// An error is an HTTP status of 400 or more with the body {"error": "…"}.
package control
