// Package parts derives from a configuration what each part of a gateway must know: the flow
// table's sites and policy, the link's peers, the host's addresses and routes, and what the host's
// checks look at. Its functions are pure.
package parts
