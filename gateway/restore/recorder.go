package restore

import (
	"iter"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/netstack/wire"
)

// File keeps records across restarts; records.Store is one. Neither method blocks.
type File interface {
	Put(key, value []byte)
	Delete(key []byte)
}

// Changes notes the keys of records that the sibling must learn of; pair.Changes is one. Put
// doesn't block.
type Changes interface{ Put(key []byte) }

// Recorder gives the data path's records to the file, and to the sibling.
type Recorder struct {
	File    File
	Changes Changes // nil without a sibling
}

var _ flow.Recorder = (*Recorder)(nil)

// Put implements flow.Recorder.
func (r *Recorder) Put(key, value []byte) {
	r.File.Put(key, value)
	if r.Changes != nil {
		r.Changes.Put(key)
	}
}

// Delete implements flow.Recorder.
func (r *Recorder) Delete(key []byte) {
	r.File.Delete(key)
	if r.Changes != nil {
		r.Changes.Put(key)
	}
}

// ReplicaTable is the flow table as its replica writes to it. Its methods are flow.Table's.
type ReplicaTable interface {
	SetStandby(bool)
	Record(b, key []byte) ([]byte, bool)
	Records(site string) iter.Seq2[[]byte, []byte]
	Replace(key, value []byte) (wire.Reason, error)
	Remove(key []byte)
}

// Replica is the flow table as the pair sees it. What the sibling replicates goes into the file
// too, so that a restart finds it.
type Replica struct {
	Table ReplicaTable
	File  File
	Log   hclog.Logger
}

// SetStandby implements pair.Flows.
func (r *Replica) SetStandby(on bool) { r.Table.SetStandby(on) }

// Record implements pair.Flows.
func (r *Replica) Record(b, key []byte) ([]byte, bool) { return r.Table.Record(b, key) }

// Records implements pair.Flows.
func (r *Replica) Records(yield func(key, value []byte) bool) { r.Table.Records("")(yield) }

// Replace implements pair.Flows.
func (r *Replica) Replace(key, value []byte) {
	reason, err := r.Table.Replace(key, value)
	if err != nil || reason != wire.OK {
		r.Log.Debug("sibling's record left out", "reason", reason, "error", err)
		return
	}
	r.File.Put(key, value)
}

// Remove implements pair.Flows.
func (r *Replica) Remove(key []byte) {
	r.Table.Remove(key)
	r.File.Delete(key)
}
