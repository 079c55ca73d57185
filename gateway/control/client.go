package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/status"
)

// ErrNotRunning says that no gateway listens on the socket: it is missing, or its process is gone.
var ErrNotRunning = errors.New("no gateway is running here")

// ErrPermission says that this user may not open the socket.
var ErrPermission = errors.New("this user may not ask the gateway")

// Client asks the gateway behind a control socket. Safe for concurrent use.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client for the socket at path. Nothing is opened before the first question.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		// A command asks once, or once a second. A connection each leaves nothing to close.
		DisableKeepAlives: true,
	}}}
}

// Status asks for the node's snapshot.
func (c *Client) Status(ctx context.Context) (status.Status, error) {
	var s status.Status
	err := c.Get(ctx, "/v1/status", &s)
	return s, err
}

// Conns asks for the flows that the query picks.
func (c *Client) Conns(ctx context.Context, q status.Query) (status.ConnList, error) {
	values := url.Values{}
	if q.Order != "" {
		values.Set("order", string(q.Order))
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	var list status.ConnList
	err := c.Get(ctx, "/v1/conns?"+values.Encode(), &list)
	return list, err
}

// Get asks for the path, with its query, and decodes the JSON answer into answer. Errors name the
// socket and wrap ErrNotRunning or ErrPermission where these are the cause; a refusal is the
// gateway's own error text.
func (c *Client) Get(ctx context.Context, path string, answer any) error {
	return c.do(ctx, http.MethodGet, path, nil, answer)
}

// Post orders what the path stands for, and is otherwise as Get.
func (c *Client) Post(ctx context.Context, path string, answer any) error {
	return c.do(ctx, http.MethodPost, path, nil, answer)
}

func (c *Client) do(ctx context.Context, method, path string, question io.Reader, answer any) error {
	body, err := c.open(ctx, method, path, question)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer of the gateway at %s: %w", c.path, err)
	}
	return nil
}

// open asks, and returns the body of an answer that is a success. The caller closes it.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	// The host is never looked up; HTTP wants one.
	req, err := http.NewRequestWithContext(ctx, method, "http://gw"+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", c.path, path, err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w (%s)", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w (%s)", ErrPermission, c.path)
	case err != nil:
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // it would repeat the made-up address
		}
		return nil, fmt.Errorf("ask the gateway at %s: %w", c.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		var body errorBody
		if json.NewDecoder(resp.Body).Decode(&body) != nil || body.Error == "" {
			body.Error = resp.Status
		}
		return nil, fmt.Errorf("the gateway at %s: %s", c.path, body.Error)
	}
	return resp.Body, nil
}
