package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/status"
)

// Reloader changes the configuration of the running gateway. Both methods may be called by several
// goroutines at once.
type Reloader interface {
	// Plan reports what the files would change. It changes nothing.
	Plan(files []File) status.Plan
	// Reload reads the files that the gateway was started with again, and applies them as a whole
	// or not at all.
	Reload() status.Reload
}

// File is the text of a configuration file. Paths in it are relative to its name, which is best
// absolute.
type File struct {
	Name string `json:"name"`
	Text []byte `json:"text"`
}

// maxPlan bounds the files of a plan together, in bytes as they are sent.
const maxPlan = 16 << 20

// ReloadRoutes returns the routes that plan and reload by r.
func ReloadRoutes(r Reloader, log hclog.Logger) []Route {
	log = log.Named("control")
	return []Route{
		{"POST /v1/reload", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			log.Info("an operator reloads the configuration")
			WriteJSON(w, r.Reload())
		})},
		{"POST /v1/plan", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var files []File
			if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxPlan)).Decode(&files); err != nil {
				WriteError(w, http.StatusBadRequest, fmt.Errorf("read the files of the plan: %w: the command is of another version; use the program that the gateway runs", err))
				return
			}
			WriteJSON(w, r.Plan(files))
		})},
	}
}

// Plan asks what the files would change in the running gateway.
func (c *Client) Plan(ctx context.Context, files []File) (status.Plan, error) {
	var p status.Plan
	body, err := json.Marshal(files)
	if err != nil {
		return p, fmt.Errorf("encode the files of the plan: %w", err)
	}
	err = c.do(ctx, http.MethodPost, "/v1/plan", bytes.NewReader(body), &p)
	return p, err
}

// Reload orders the gateway to read its files again. A refusal is an answer, not an error.
func (c *Client) Reload(ctx context.Context) (status.Reload, error) {
	var r status.Reload
	err := c.Post(ctx, "/v1/reload", &r)
	return r, err
}
