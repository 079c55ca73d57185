// Package status is the one place that turns snapshots of the gateway into what people and machines
// read: JSON and Prometheus metrics. It defines the snapshots as plain data; their JSON form is the
// contract of `gw status --json`, `gw conns --json` and `gw ha … --json`:
//
//   - names are snake_case and stay; new ones may be added;
//   - units are base units, named when they aren't bare counts: bytes, seconds (decimal), ratios from 0 to 1; the one
//     exception are the phases of a failover, which people compare in milliseconds (phases_ms);
//   - points in time are RFC 3339, and are left out when the thing never happened;
//   - what was not measured is left out, never shown as zero.
//
// It only reads: the gateway offers a Source.
package status
