// Package strongroom reaches a mesh of Strongroom, a key management service.
//
// A Client has the generated stubs of every service. Each call of theirs gets the session's token, a deadline, a trace
// and checksums, goes to the next address where nobody answers, and fails with an *Error that has a stable reason.
package strongroom

import (
	"context"
	"strings"
	"time"

	accessv1 "github.com/strongroom/strongroom/clients/go/strongroom/access/v1"
	auditv1 "github.com/strongroom/strongroom/clients/go/strongroom/audit/v1"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
	keystorev1 "github.com/strongroom/strongroom/clients/go/strongroom/keystore/v1"
	secretsv1 "github.com/strongroom/strongroom/clients/go/strongroom/secrets/v1"
)

// Config says where a mesh is and who calls it.
type Config struct {
	// Endpoints maps `keystore`, `crypto`, `secrets` and `audit` to `host:port`; several replicas are joined by commas.
	Endpoints map[string]string
	// Account is the id of the account that short names are completed with.
	Account string
	// Trust is a PEM file of the mesh's certificate authorities; empty for the system's. A replaced file is read again.
	Trust       string
	Credentials Credentials
	// Timeout is for calls whose context has no deadline, retries included; 0 stands for 10 seconds.
	Timeout time.Duration
}

// Client holds the connections to a mesh, each opened when it is first needed. It may be shared between goroutines.
type Client struct {
	Keys     keystorev1.KeyServiceClient
	Crypto   cryptov1.CryptoServiceClient
	Secrets  secretsv1.SecretServiceClient
	Audit    auditv1.AuditServiceClient
	Access   accessv1.AccessServiceClient
	Sessions accessv1.SessionServiceClient

	account  string
	channels []*channel
}

var services = []string{"keystore", "crypto", "secrets", "audit"}

// New makes a client; nothing is connected yet.
func New(config Config) (*Client, error) {
	if config.Credentials == nil {
		return nil, invalid("FIELD_REQUIRED", "credentials", "say how the caller proves who it is")
	}
	if config.Timeout == 0 {
		config.Timeout = defaultLimit
	}
	client := &Client{account: config.Account}
	files := config.Credentials.files(config.Trust)
	endpoints := map[string]*endpoint{}
	for _, service := range services {
		made := &endpoint{service: service, timeout: config.Timeout}
		for address := range strings.SplitSeq(config.Endpoints[service], ",") {
			if address = strings.TrimSpace(address); address != "" {
				made.channels = append(made.channels, &channel{address: address, files: files})
			}
		}
		client.channels = append(client.channels, made.channels...)
		endpoints[service] = made
	}
	// Sessions are begun over the same connections, without a token or with that of the session before.
	begin := func(tokens tokenSource) accessv1.SessionServiceClient {
		keystore := endpoints["keystore"]
		return accessv1.NewSessionServiceClient(
			&endpoint{service: keystore.service, channels: keystore.channels, timeout: config.Timeout, tokens: tokens})
	}
	tokens := config.Credentials.source(begin(nil), begin)
	for _, made := range endpoints {
		made.tokens = tokens
	}
	client.Keys = keystorev1.NewKeyServiceClient(endpoints["keystore"])
	client.Access = accessv1.NewAccessServiceClient(endpoints["keystore"])
	client.Sessions = accessv1.NewSessionServiceClient(endpoints["keystore"])
	client.Crypto = cryptov1.NewCryptoServiceClient(endpoints["crypto"])
	client.Secrets = secretsv1.NewSecretServiceClient(endpoints["secrets"])
	client.Audit = auditv1.NewAuditServiceClient(endpoints["audit"])
	return client, nil
}

// Close ends every connection; calls in flight are cancelled.
func (c *Client) Close() {
	for _, one := range c.channels {
		one.close()
	}
}

// KeyName gives the full name of a key or alias: from an id (`payments`), `alias/{alias}`, or a full name.
func (c *Client) KeyName(name string) (string, error) {
	collection := "/keys/"
	if strings.HasPrefix(name, "accounts/") {
		return name, nil
	}
	if short, alias := strings.CutPrefix(name, "alias/"); alias {
		collection, name = "/aliases/", short
	}
	switch {
	case name == "":
		return "", invalid("FIELD_REQUIRED", "key", "key is required")
	case strings.Contains(name, "/"):
		return "", invalid("NAME_MALFORMED", "key", "key is not an id, alias/{alias}, or accounts/…: "+name)
	case c.account == "":
		return "", invalid("FIELD_REQUIRED", "account", "no account is set: give the name in full")
	}
	return "accounts/" + c.account + collection + name, nil
}

// Encrypt encrypts up to 64 KiB in the mesh. Package encryption is for larger content, or much of it.
func (c *Client) Encrypt(
	ctx context.Context, key string, plaintext []byte, pairs map[string]string,
) (*cryptov1.EncryptResponse, error) {
	name, err := c.KeyName(key)
	if err != nil {
		return nil, err
	}
	return c.Crypto.Encrypt(ctx, &cryptov1.EncryptRequest{Key: name, Plaintext: plaintext, EncryptionContext: pairs})
}

// Decrypt decrypts what Encrypt or GenerateDataKey made; with a key, only what is under it.
func (c *Client) Decrypt(
	ctx context.Context, key string, ciphertext []byte, pairs map[string]string,
) (*cryptov1.DecryptResponse, error) {
	if key != "" {
		name, err := c.KeyName(key)
		if err != nil {
			return nil, err
		}
		key = name
	}
	return c.Crypto.Decrypt(ctx, &cryptov1.DecryptRequest{Key: key, Ciphertext: ciphertext, EncryptionContext: pairs})
}

// GenerateDataKey makes a data key of 32 bytes, in the clear and encrypted under a key.
func (c *Client) GenerateDataKey(
	ctx context.Context, key string, pairs map[string]string,
) (*cryptov1.GenerateDataKeyResponse, error) {
	name, err := c.KeyName(key)
	if err != nil {
		return nil, err
	}
	return c.Crypto.GenerateDataKey(
		ctx, &cryptov1.GenerateDataKeyRequest{Key: name, NumberOfBytes: 32, EncryptionContext: pairs})
}
