// Package e2e shows what gw promises, on the lab's network: the real binary,
// real kernels' TCP and a real PostgreSQL. What is asserted is what the
// databases see.
package e2e
