// Package web is the page for people at status.listen: the node's state, the last hour of its links
// and its failovers, live. It only reads snapshots, and is the only package that keeps a past: a
// bounded one, sampled once a second, so that nothing in the data path remembers anything for its
// sake.
//
// The page is three embedded files without a build step. It loads nothing from elsewhere and its
// Content-Security-Policy forbids that; what comes from a snapshot reaches the document as text,
// never as markup. A stream of server-sent events keeps it current: each snapshot is encoded once,
// however many look, and nothing is encoded while nobody does.
package web
