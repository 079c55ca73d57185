// Package netstack is the TCP/IP stack in user space, and the only importer of
// gVisor. It holds Host, which gives a node a stack of its own on its own
// address for the control traffic between gateways: it depends on no firewall
// and no socket of the host's kernel, and dies with the process.
package netstack
