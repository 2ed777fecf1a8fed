package strongroom

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	filesCheckedEvery = 5 * time.Second
	// Answers to batches are a little larger than the 4 MiB that a request may have.
	maxAnswerBytes = 8 << 20
)

// pemFiles are what to connect with. Without trust, the system's certificate authorities are trusted.
type pemFiles struct {
	trust, certificate, key string
}

// stamps differ once a file was replaced.
func (p pemFiles) stamps() (string, error) {
	var all strings.Builder
	for _, path := range []string{p.trust, p.certificate, p.key} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return all.String(), nil
}

// config gives what the files hold now.
func (p pemFiles) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if p.trust != "" {
		pem, err := os.ReadFile(p.trust)
		if err != nil {
			return nil, unreadable(err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, unreadable(fmt.Errorf("%s holds no certificate in PEM", p.trust))
		}
	}
	if p.certificate != "" {
		certificate, err := tls.LoadX509KeyPair(p.certificate, p.key)
		if err != nil {
			return nil, unreadable(err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

func unreadable(err error) error {
	return &Error{Reason: "CREDENTIALS_UNREADABLE", Code: codes.FailedPrecondition, Message: err.Error()}
}

// channel is a connection to one address that is made anew, for new calls, when the PEM files were replaced.
type channel struct {
	address string
	files   pemFiles
	lock    sync.Mutex
	current *connection
	stamps  string
	checkAt time.Time
	closed  bool
}

// connection counts its calls, so that it can end with the last of them.
type connection struct {
	*grpc.ClientConn
	calls sync.WaitGroup
}

// acquire gives the connection for a call that begins now; the caller says Done to its calls afterwards.
func (c *channel) acquire() (*connection, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.closed {
		return nil, &Error{Reason: "CLIENT_CLOSED", Code: codes.FailedPrecondition, Message: "the client was closed"}
	}
	if now := time.Now(); c.current == nil || now.After(c.checkAt) {
		c.checkAt = now.Add(filesCheckedEvery)
		stamps, err := c.files.stamps()
		if err != nil && c.current == nil {
			return nil, unreadable(err)
		}
		if c.current == nil || (err == nil && stamps != c.stamps) {
			// A replacement may be half done, one file of it or a part of one: until it is whole, the connection that
			// stands is used, and each check tries again.
			if err := c.renew(stamps); err != nil && c.current == nil {
				return nil, err
			}
		}
	}
	c.current.calls.Add(1)
	return c.current, nil
}

func (c *channel) renew(stamps string) error {
	config, err := c.files.config()
	if err != nil {
		return err
	}
	made, err := grpc.NewClient(
		"passthrough:///"+c.address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // invoke.go retries, with the other addresses
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return invalid("ENDPOINT_INVALID", "endpoints", c.address+" is not of the form host:port")
	}
	before := c.current
	c.current, c.stamps = &connection{ClientConn: made}, stamps
	if before != nil {
		go func() {
			before.calls.Wait()
			before.Close()
		}()
	}
	return nil
}

func (c *channel) close() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.closed = true
	if c.current != nil {
		c.current.Close()
	}
}

// ready waits until the connection stands. Where it answers an error, nothing was sent.
func (c *connection) ready(ctx context.Context) error {
	for {
		state := c.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errNobody
		case connectivity.Idle:
			c.Connect()
		case connectivity.Connecting:
		}
		if !c.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}
