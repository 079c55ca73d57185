package restore

import (
	"iter"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/pair"
	"github.com/onewaylink/gw/netstack/wire"
)

// The pair reaches the flow table by a Replica.
var _ pair.Flows = (*Replica)(nil)

// log notes in which order the parts are told what.
type log []string

type file struct{ *log }

func (f file) Put(k, v []byte) { *f.log = append(*f.log, "file "+string(k)+"="+string(v)) }
func (f file) Delete(k []byte) { *f.log = append(*f.log, "file -"+string(k)) }

type changed struct{ *log }

func (c changed) Put(k []byte) { *c.log = append(*c.log, "sibling "+string(k)) }

// The data path's records go to the file, and to the sibling where there is one.
func TestRecorder(t *testing.T) {
	var got log
	r := &Recorder{File: file{&got}, Changes: changed{&got}}
	r.Put([]byte("k"), []byte("v"))
	r.Delete([]byte("k"))
	r.Changes = nil
	r.Put([]byte("l"), []byte("w"))
	r.Delete([]byte("l"))
	if want := (log{"file k=v", "sibling k", "file -k", "sibling k", "file l=w", "file -l"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

type replicaTable struct{ *log }

func (r replicaTable) SetStandby(on bool) {
	if on {
		*r.log = append(*r.log, "standby")
	}
}

func (r replicaTable) Record(b, k []byte) ([]byte, bool) { return append(b, k...), true }

func (r replicaTable) Records(site string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) { yield([]byte("all"+site), nil) }
}

func (r replicaTable) Replace(k, v []byte) (wire.Reason, error) {
	switch string(v) {
	case "malformed":
		return wire.OK, errMalformed
	case "full":
		return wire.TableFull, nil
	}
	*r.log = append(*r.log, "table "+string(k)+"="+string(v))
	return wire.OK, nil
}

func (r replicaTable) Remove(k []byte) { *r.log = append(*r.log, "table -"+string(k)) }

// What the sibling replicates is in the table before it is in the file: a snapshot in between has
// it. What the table refuses is not in the file.
func TestReplica(t *testing.T) {
	var got log
	r := &Replica{Table: replicaTable{&got}, File: file{&got}, Log: hclog.NewNullLogger()}
	r.SetStandby(true)
	r.Replace([]byte("k"), []byte("v"))
	r.Replace([]byte("k"), []byte("malformed"))
	r.Replace([]byte("k"), []byte("full"))
	r.Remove([]byte("k"))
	if want := (log{"standby", "table k=v", "file k=v", "table -k", "file -k"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if b, ok := r.Record([]byte("the "), []byte("k")); string(b) != "the k" || !ok {
		t.Errorf("%q", b)
	}
	for k := range r.Records {
		if string(k) != "all" {
			t.Errorf("%q", k)
		}
	}
}
