package strongroom

import (
	"context"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/strongroom/strongroom/clients/go/strongroom/access/v1"
)

// Credentials are how a caller proves who it is: ClientCertificate, CertificateSession, ClientKeySession,
// OIDCTokenSession, AssumedRole or SessionToken.
type Credentials interface {
	files(trust string) pemFiles
	source(sessions accessv1.SessionServiceClient, roles rolesOf) tokenSource
}

// ClientCertificate is mutual TLS on every connection, with PEM files: when they are replaced, new calls use the new ones.
type ClientCertificate struct{ Certificate, Key string }

// CertificateSession is session tokens that a client certificate is exchanged for, again before they expire. The
// endpoint of keystore must be its listener for client certificates.
type CertificateSession struct {
	Certificate, Key, SessionName string
	// Duration is a second to 12 hours; 0 stands for an hour.
	Duration time.Duration
}

// ClientKeySession is session tokens that a client key and its secret are exchanged for, again before they expire.
type ClientKeySession struct {
	// Name is `accounts/{account}/clientKeys/{id}`.
	Name string
	// SecretFile holds the secret, and is read again for each session; or Secret is the secret itself.
	SecretFile  string
	Secret      Secret
	SessionName string
	Duration    time.Duration
}

// OIDCTokenSession is session tokens that an issuer's token is exchanged for, again before they expire.
type OIDCTokenSession struct {
	// TokenFile is read again for each session, as Kubernetes replaces it.
	TokenFile string
	// Account is the id of the account that accepts the issuer.
	Account     string
	SessionName string
	Duration    time.Duration
}

// AssumedRole is sessions as a role, begun by whom Source proves, and again before they expire.
type AssumedRole struct {
	Source                        Credentials
	Role, SessionName, ExternalID string
	// Duration is 15 minutes to what the role allows; 0 stands for an hour, or less where the role allows less.
	Duration time.Duration
}

// SessionToken is a session token that somebody else got: when it has expired, calls fail with TOKEN_EXPIRED.
type SessionToken struct{ Token Secret }

// Secret is a text that is printed as stars.
type Secret string

// String hides it.
func (Secret) String() string { return "***" }

// GoString hides it from %#v too.
func (Secret) GoString() string { return "***" }

func (c ClientCertificate) files(trust string) pemFiles { return pemFiles{trust, c.Certificate, c.Key} }
func (c CertificateSession) files(trust string) pemFiles {
	return pemFiles{trust, c.Certificate, c.Key}
}
func (c ClientKeySession) files(trust string) pemFiles { return pemFiles{trust: trust} }
func (c OIDCTokenSession) files(trust string) pemFiles { return pemFiles{trust: trust} }
func (c AssumedRole) files(trust string) pemFiles      { return c.Source.files(trust) }
func (c SessionToken) files(trust string) pemFiles     { return pemFiles{trust: trust} }

// rolesOf gives the service that begins sessions as a role, called with the tokens of a source.
type rolesOf func(tokenSource) accessv1.SessionServiceClient

func (c ClientCertificate) source(accessv1.SessionServiceClient, rolesOf) tokenSource { return nil }

func (c SessionToken) source(accessv1.SessionServiceClient, rolesOf) tokenSource {
	return fixedToken(c.Token)
}

func (c CertificateSession) source(sessions accessv1.SessionServiceClient, _ rolesOf) tokenSource {
	return exchanging(func(ctx context.Context) (*accessv1.Session, error) {
		return sessions.CreateSession(ctx, &accessv1.CreateSessionRequest{
			Credential:  &accessv1.CreateSessionRequest_Certificate{Certificate: &accessv1.CertificateCredential{}},
			SessionName: c.SessionName, Duration: optional(c.Duration),
		})
	})
}

func (c ClientKeySession) source(sessions accessv1.SessionServiceClient, _ rolesOf) tokenSource {
	return exchanging(func(ctx context.Context) (*accessv1.Session, error) {
		secret := string(c.Secret)
		if c.SecretFile != "" {
			var err error
			if secret, err = trimmed(c.SecretFile); err != nil {
				return nil, err
			}
		}
		credential := &accessv1.ClientKeyCredential{ClientKey: c.Name, Secret: secret}
		return sessions.CreateSession(ctx, &accessv1.CreateSessionRequest{
			Credential:  &accessv1.CreateSessionRequest_ClientKey{ClientKey: credential},
			SessionName: c.SessionName, Duration: optional(c.Duration),
		})
	})
}

func (c OIDCTokenSession) source(sessions accessv1.SessionServiceClient, _ rolesOf) tokenSource {
	return exchanging(func(ctx context.Context) (*accessv1.Session, error) {
		token, err := trimmed(c.TokenFile)
		if err != nil {
			return nil, err
		}
		credential := &accessv1.OidcTokenCredential{Account: "accounts/" + c.Account, Token: token}
		return sessions.CreateSession(ctx, &accessv1.CreateSessionRequest{
			Credential:  &accessv1.CreateSessionRequest_OidcToken{OidcToken: credential},
			SessionName: c.SessionName, Duration: optional(c.Duration),
		})
	})
}

func (c AssumedRole) source(sessions accessv1.SessionServiceClient, roles rolesOf) tokenSource {
	before := roles(c.Source.source(sessions, roles))
	return exchanging(func(ctx context.Context) (*accessv1.Session, error) {
		return before.AssumeRole(ctx, &accessv1.AssumeRoleRequest{
			Role: c.Role, SessionName: c.SessionName, ExternalId: c.ExternalID, Duration: optional(c.Duration),
		})
	})
}

func optional(length time.Duration) *durationpb.Duration {
	if length == 0 {
		return nil
	}
	return durationpb.New(length)
}

// trimmed reads a secret from a file, without its last newline.
func trimmed(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", unreadable(err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// tokenSource is where the session token of a call comes from.
type tokenSource interface {
	current(ctx context.Context) (string, error)
	// renew says that a service did not accept a token; it answers whether current may have another now.
	renew(refused string) bool
}

type fixedToken Secret

func (t fixedToken) current(context.Context) (string, error) { return string(t), nil }
func (fixedToken) renew(string) bool                         { return false }

// exchangedTokens are exchanged for when first asked for, and again when a fifth of their time is left.
type exchangedTokens struct {
	exchange func(context.Context) (*accessv1.Session, error)
	// turn holds one token: whoever takes it may exchange. Waiting for it ends with the waiter's own context.
	turn    chan struct{}
	token   string
	renewAt time.Time
	refused string
}

func exchanging(exchange func(context.Context) (*accessv1.Session, error)) tokenSource {
	return &exchangedTokens{exchange: exchange, turn: make(chan struct{}, 1)}
}

func (t *exchangedTokens) current(ctx context.Context) (string, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", fromStatus(ctx, ctx.Err(), "the exchange of credentials for a session", "", nil)
	}
	defer func() { <-t.turn }()
	now := time.Now()
	if t.token == "" || t.token == t.refused || !now.Before(t.renewAt) {
		session, err := t.exchange(ctx)
		if err != nil {
			return "", err
		}
		t.token = session.GetToken()
		t.renewAt = now.Add(session.GetExpireTime().AsTime().Sub(now) / 5 * 4)
	}
	return t.token, nil
}

func (t *exchangedTokens) renew(refused string) bool {
	t.turn <- struct{}{}
	t.refused = refused
	<-t.turn
	return true
}
