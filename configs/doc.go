// Package configs turns the HCL that an operator writes into the typed
// configuration that a gateway runs on. It is the only package that knows HCL.
//
// What lives here:
//
//   - [Load] reads files and directories, merges them, and reports all mistakes
//     at once as [Diagnostics], each with its place, the line underlined, and
//     what to do about it;
//   - [Config] and the types below it are the result, passed by value, with
//     every default filled in;
//   - [Config.Sections] digests what two nodes share, so that hello can compare
//     it by attribute name without sending values;
//   - [Render] prints the file with only what one site needs to know, and
//     [Starter] writes a first file for two sites;
//   - [Key] and [PrivateKey] are WireGuard keys in their usual base64 text;
//   - reference.hcl documents every setting, examples/ holds files to start
//     from, and gw.service is the systemd unit.
//
// The same file lies on every node of a network. Which node it is, a node
// learns from its own private key. What may differ between machines stands in
// the local block.
package configs
