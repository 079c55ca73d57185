package status

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets through only requests that ask for this server by an IP address, as localhost, or by
// the host of the listen address. Without it a web site whose name is made to lead here (DNS
// rebinding) could read this server through the browser of somebody who can reach it. A request
// without any host passes: browsers send one, and some health checks do not.
func guard(listen string, next http.Handler) http.Handler {
	own, _, err := net.SplitHostPort(listen)
	if err != nil {
		own = ""
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowedHost(r.Host, own) {
			http.Error(w, "ask by address, as localhost, or by the host name in local { status { listen = … } }", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allowedHost(host, own string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	if host == "" || strings.EqualFold(host, "localhost") || own != "" && strings.EqualFold(host, own) {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
