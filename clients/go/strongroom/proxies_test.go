package strongroom

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAnAddressIsNamedWithTheProxyOnTheWayToIt(t *testing.T) {
	proxy := http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("somebody", "hunter2"), Host: "proxy.example:3128"})
	told := described("mesh.example:7101", proxy)
	if told != "mesh.example:7101 (through the proxy proxy.example:3128 of HTTPS_PROXY; NO_PROXY names exceptions)" {
		t.Error(told)
	}
	none := func(*http.Request) (*url.URL, error) { return nil, nil }
	if told := described("mesh.example:7101", none); told != "mesh.example:7101" {
		t.Error(told)
	}
}

// The environment is read once in a process.
func TestTheErrorOfACallNamesTheProxyThatItWentThrough(t *testing.T) {
	if os.Getenv("STRONGROOM_TEST_PROXIED") == "" {
		again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		again.Env = append(os.Environ(), "STRONGROOM_TEST_PROXIED=1", "HTTPS_PROXY=http://somebody:hunter2@127.0.0.1:1", "NO_PROXY=")
		if told, err := again.CombinedOutput(); err != nil {
			t.Fatal(string(told))
		}
		return
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	serve(t, &mesh{}, trust)
	client := clientOf(t, trust, "192.0.2.1:7101")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := client.Encrypt(ctx, "a", []byte("content"), nil)
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1:7101 (through the proxy 127.0.0.1:1 of HTTPS_PROXY") || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(err)
	}
}
