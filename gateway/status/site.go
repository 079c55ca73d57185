package status

// Site counts what the gateways of one other site have given to this node and asked of it.
type Site struct {
	Site string `json:"site"`
	// RelayReason says why bulk transfers to the site are relayed: the round trip or the loss that
	// was measured. It is empty while they are forwarded raw.
	RelayReason string `json:"relay_reason,omitempty"`
	// Unconfirmed is the number of flows that only the site's records tell of: the local host has
	// not confirmed them yet.
	Unconfirmed int `json:"unconfirmed_flows"`
	// Records are the records that the site has given, by result, in a fixed order.
	Records []RecordResult `json:"records"`
	// RecordRequests and Questions are what the site has asked for.
	RecordRequests Requests `json:"record_requests"`
	Questions      Requests `json:"questions"`
}

// RecordResult is how many records of a site had one result.
type RecordResult struct {
	Result string `json:"result"`
	Count  uint64 `json:"count_total"`
}

// Requests counts requests. Refused ones exceeded the site's limits.
type Requests struct {
	Answered uint64 `json:"answered_total"`
	Refused  uint64 `json:"refused_total"`
}

// Streams counts the packets between this node's own ports inside the tunnel and other nodes.
type Streams struct {
	// Received and Sent are those of TCP.
	Received uint64 `json:"received_total"`
	Sent     uint64 `json:"sent_total"`
	// Dropped found no room; Limited ones, and connections, exceeded the share of their node.
	Dropped uint64 `json:"dropped_total"`
	Limited uint64 `json:"limited_total"`
	// Drops are packets of all protocols that were dropped before they reached their port, or the
	// tunnel, by reason.
	Drops []Drop `json:"drops"`
}
