package strongroom

import (
	"net/http"
	"net/url"
)

// described is an address as errors name it: with the proxy on the way, which gRPC takes from the environment without
// saying so, and without the proxy's own credential.
func described(address string, proxyOf func(*http.Request) (*url.URL, error)) string {
	proxy, err := proxyOf(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if err != nil || proxy == nil {
		return address
	}
	return address + " (through the proxy " + proxy.Host + " of HTTPS_PROXY; NO_PROXY names exceptions)"
}
