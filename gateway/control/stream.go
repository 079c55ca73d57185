package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// Trace asks what happens to a packet. Ports are 0 for icmp; size 0 is the smallest packet.
func (c *Client) Trace(ctx context.Context, spec status.FlowSpec, size int) (status.Trace, error) {
	values := url.Values{
		"source": {status.EndText(spec.A)}, "destination": {status.EndText(spec.B)}, "proto": {spec.Proto}, "size": {strconv.Itoa(size)},
	}
	var t status.Trace
	err := c.Get(ctx, "/v1/trace?"+values.Encode(), &t)
	return t, err
}

// Capture opens a pcapng file of the packets of some flows: those of the past, as long as last
// says, or, if that is zero, live until ctx ends. The caller closes it.
func (c *Client) Capture(ctx context.Context, spec status.FlowSpec, last time.Duration) (io.ReadCloser, error) {
	values := url.Values{"flow": {spec.String()}}
	if last > 0 {
		values.Set("last", last.String())
	}
	return c.open(ctx, http.MethodGet, "/v1/capture?"+values.Encode(), nil)
}

// Packets calls each for every packet of some flows that the gateway judges from now on, until ctx
// ends or each reports false.
func (c *Client) Packets(ctx context.Context, spec status.FlowSpec, each func(status.Packet) bool) error {
	body, err := c.open(ctx, http.MethodGet, "/v1/packets?"+url.Values{"flow": {spec.String()}}.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var p status.Packet
		if err := dec.Decode(&p); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read the answer of the gateway at %s: %w", c.path, err)
		}
		if !each(p) {
			return nil
		}
	}
}
