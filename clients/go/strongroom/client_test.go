package strongroom

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/strongroom/strongroom/clients/go/strongroom/access/v1"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
	keystorev1 "github.com/strongroom/strongroom/clients/go/strongroom/keystore/v1"
)

// mesh is a service that answers as a test says, over TLS.
type mesh struct {
	cryptov1.UnimplementedCryptoServiceServer
	accessv1.UnimplementedSessionServiceServer
	keystorev1.UnimplementedKeyServiceServer
	encrypt  func(metadata.MD, *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error)
	create   func(count int) error
	disable  func(ctx context.Context, count int) error
	sessions atomic.Int32
	disables atomic.Int32
	lock     sync.Mutex
	ids      []string // of the requests to create a key
}

func (m *mesh) Encrypt(ctx context.Context, request *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	grpc.SetTrailer(ctx, metadata.Pairs(eventHeader, "event-1"))
	return m.encrypt(incoming, request)
}

func (m *mesh) CreateSession(_ context.Context, request *accessv1.CreateSessionRequest) (*accessv1.Session, error) {
	if request.GetClientKey().GetSecret() != "secret" {
		return nil, refusing(codes.Unauthenticated, "CREDENTIAL_INVALID", "")
	}
	token := fmt.Sprintf("token-%d", m.sessions.Add(1))
	return &accessv1.Session{Token: token, ExpireTime: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

func (m *mesh) CreateKey(_ context.Context, request *keystorev1.CreateKeyRequest) (*keystorev1.Key, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.ids = append(m.ids, request.GetRequestId())
	if err := m.create(len(m.ids)); err != nil {
		return nil, err
	}
	return &keystorev1.Key{Name: "accounts/main/keys/a"}, nil
}

func (m *mesh) DisableKey(ctx context.Context, _ *keystorev1.DisableKeyRequest) (*keystorev1.Key, error) {
	if err := m.disable(ctx, int(m.disables.Add(1))); err != nil {
		return nil, err
	}
	return &keystorev1.Key{Name: "accounts/main/keys/a"}, nil
}

func broken(int) error { return status.Error(codes.Unavailable, "the connection broke") }

func refusing(code codes.Code, reason, field string) error {
	refusal, err := status.New(code, "refused").WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: map[string]string{"field": field}})
	if err != nil {
		return err
	}
	return refusal.Err()
}

// serve starts a mesh, and gives its address; what certifies it goes into the file trust.
func serve(t *testing.T, m *mesh, trust string) string {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, trust, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
	})))
	cryptov1.RegisterCryptoServiceServer(server, m)
	accessv1.RegisterSessionServiceServer(server, m)
	keystorev1.RegisterKeyServiceServer(server, m)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func clientOf(t *testing.T, trust, addresses string) *Client {
	t.Helper()
	client, err := New(Config{
		Endpoints: map[string]string{"crypto": addresses, "keystore": addresses}, Account: "main", Trust: trust,
		Credentials: ClientKeySession{Name: "accounts/main/clientKeys/a", Secret: "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func sealed(metadata.MD, *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
	return &cryptov1.EncryptResponse{Ciphertext: []byte("sealed"), Key: "accounts/main/keys/a"}, nil
}

const nobody = "127.0.0.1:1"

func TestACallCarriesTokenTraceAndChecksumAndGoesToTheNextAddress(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	address := serve(t, &mesh{encrypt: func(incoming metadata.MD, request *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
		parts := strings.Split(incoming.Get("traceparent")[0], "-")
		if incoming.Get("authorization")[0] != "Bearer token-1" || len(parts) != 4 || len(parts[1]) != 32 {
			t.Errorf("came with %v", incoming)
		}
		if request.GetPlaintextCrc32C() != crc32.Checksum([]byte("content"), castagnoli) || request.GetKey() != "accounts/main/keys/a" {
			t.Errorf("came as %v", request)
		}
		return sealed(incoming, request)
	}}, trust)
	client := clientOf(t, trust, nobody+", "+address)
	for range 2 {
		if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	served := &mesh{encrypt: func(incoming metadata.MD, request *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
		if incoming.Get("authorization")[0] != "Bearer token-2" {
			return nil, refusing(codes.Unauthenticated, "TOKEN_EXPIRED", "")
		}
		return sealed(incoming, request)
	}}
	client := clientOf(t, trust, serve(t, served, trust))
	if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); err != nil || served.sessions.Load() != 2 {
		t.Fatal(served.sessions.Load(), err)
	}
}

func TestAnErrorHasReasonFieldAndEvent(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	var calls atomic.Int32
	client := clientOf(t, trust, serve(t, &mesh{encrypt: func(metadata.MD, *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
		if calls.Add(1) < 3 {
			return nil, refusing(codes.Unavailable, "KEYSTORE_STALE", "")
		}
		return nil, refusing(codes.FailedPrecondition, "KEY_DISABLED", "key")
	}}, trust))
	_, err := client.Encrypt(t.Context(), "a", []byte("content"), nil)
	refusal, known := err.(*Error)
	if !known || refusal.Reason != "KEY_DISABLED" || refusal.Field != "key" || refusal.EventID != "event-1" || len(refusal.TraceID) != 32 {
		t.Fatalf("%#v", err)
	}
	if status.Code(err) != codes.FailedPrecondition {
		t.Error(status.Code(err))
	}
}

func TestAnAnswerThatWasAlteredIsNoAnswer(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	client := clientOf(t, trust, serve(t, &mesh{encrypt: func(metadata.MD, *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
		wrong := uint32(1)
		return &cryptov1.EncryptResponse{Ciphertext: []byte("sealed"), CiphertextCrc32C: &wrong}, nil
	}}, trust))
	if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); ReasonOf(err) != AnswerCorrupted {
		t.Fatal(err)
	}
}

func TestAChangeThatMayHaveBeenMadeIsRepeatedByItsRequestIDAlone(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	served := &mesh{create: broken, disable: func(context.Context, int) error { return broken(0) }}
	client := clientOf(t, trust, serve(t, served, trust))
	if _, err := client.Keys.DisableKey(t.Context(), &keystorev1.DisableKeyRequest{}); ReasonOf(err) != Unreachable || served.disables.Load() != 1 {
		t.Fatal(served.disables.Load(), err)
	}
	request := &keystorev1.CreateKeyRequest{}
	client.Keys.CreateKey(t.Context(), request)
	if ids := slices.Compact(slices.Clone(served.ids)); len(served.ids) != rounds || len(ids) != 1 || !uuid.MatchString(ids[0]) {
		t.Fatal(served.ids)
	}
	if request.GetRequestId() != "" {
		t.Error("the caller's own request was changed")
	}
	client.Keys.CreateKey(t.Context(), &keystorev1.CreateKeyRequest{RequestId: "one"})
	if last := served.ids[len(served.ids)-1]; last != "one" {
		t.Error(last)
	}
}

func TestAChangeWithoutARequestIDIsRepeatedWhereAServiceHasNotBegunIt(t *testing.T) {
	for pushback, calls := range map[string]int32{"": 2, "0": 2, "250": 2, "-1": 1, "never": 1} {
		trust := filepath.Join(t.TempDir(), "trust.pem")
		served := &mesh{disable: func(ctx context.Context, count int) error {
			if count > 1 {
				return nil
			}
			if pushback != "" {
				grpc.SetTrailer(ctx, metadata.Pairs(pushbackTrailer, pushback))
			}
			return refusing(codes.Unavailable, "SHUTTING_DOWN", "")
		}}
		client := clientOf(t, trust, serve(t, served, trust))
		_, err := client.Keys.DisableKey(t.Context(), &keystorev1.DisableKeyRequest{})
		if served.disables.Load() != calls || (err == nil) != (calls > 1) {
			t.Errorf("with pushback %q: %d calls, %v", pushback, served.disables.Load(), err)
		}
	}
}

var uuid = regexp.MustCompile("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$")

func TestAChangeThatMayStandIsAskedForByItsRequestIDUntilThatIsKnown(t *testing.T) {
	for reason := range pendingReasons {
		trust := filepath.Join(t.TempDir(), "trust.pem")
		served := &mesh{create: func(count int) error {
			switch {
			case count == 1:
				return refusing(codes.Unavailable, reason, "")
			case count < 2+rounds:
				return refusing(codes.Unavailable, "AUDIT_UNREACHABLE", "")
			}
			return nil
		}}
		client := clientOf(t, trust, serve(t, served, trust))
		if _, err := client.Keys.CreateKey(t.Context(), &keystorev1.CreateKeyRequest{}); err != nil {
			t.Fatal(reason, err)
		}
		if len(slices.Compact(slices.Clone(served.ids))) != 1 {
			t.Error(reason, served.ids)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		served.lock.Lock()
		served.ids, served.create = nil, func(int) error { return refusing(codes.Unavailable, reason, "") }
		served.lock.Unlock()
		if _, err := client.Keys.CreateKey(ctx, &keystorev1.CreateKeyRequest{}); ReasonOf(err) != reason || len(served.ids) < 2 {
			t.Error(reason, err, served.ids)
		}
	}
}

func TestReplacedTrustIsReadAgain(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	address := serve(t, &mesh{encrypt: sealed}, trust)
	own, _ := os.ReadFile(trust)
	serve(t, &mesh{}, trust) // the file holds another's certificate now
	client := clientOf(t, trust, address)
	if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); ReasonOf(err) != Unreachable {
		t.Fatal(err)
	}
	write(t, trust, string(own)+"\n")
	for _, one := range client.channels {
		one.lock.Lock()
		one.checkAt = time.Time{}
		one.lock.Unlock()
	}
	if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); err != nil {
		t.Fatal(err)
	}
}

func TestAReplacementThatIsHalfDoneStopsNoCall(t *testing.T) {
	folder := t.TempDir()
	trust, certificate, key := filepath.Join(folder, "trust"), filepath.Join(folder, "certificate"), filepath.Join(folder, "key")
	address := serve(t, &mesh{encrypt: sealed}, trust)
	pair := func() (string, string) {
		private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
		made, _ := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		encoded, _ := x509.MarshalECPrivateKey(private)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})),
			string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}))
	}
	before, beforeKey := pair()
	after, afterKey := pair()
	write(t, certificate, before)
	write(t, key, beforeKey)
	one := &channel{address: address, files: pemFiles{trust, certificate, key}}
	t.Cleanup(one.close)
	current := func() *connection {
		one.checkAt = time.Time{}
		connection, err := one.acquire()
		if err != nil {
			t.Fatal(err)
		}
		connection.calls.Done()
		return connection
	}
	made := current()
	write(t, certificate, after+"\n")
	if current() != made {
		t.Error("a certificate was used with another's key")
	}
	write(t, key, afterKey[:len(afterKey)/2])
	if current() != made {
		t.Error("half a key was used")
	}
	write(t, key, afterKey+"\n")
	if current() == made {
		t.Error("the whole replacement was not used")
	}
}

func TestADeadlineEndsACallAndACancelledContextIsTold(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust.pem")
	client := clientOf(t, trust, serve(t, &mesh{encrypt: func(metadata.MD, *cryptov1.EncryptRequest) (*cryptov1.EncryptResponse, error) {
		time.Sleep(300 * time.Millisecond)
		return nil, nil
	}}, trust))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := client.Encrypt(ctx, "a", []byte("content"), nil); ReasonOf(err) != DeadlineExceeded {
		t.Fatal(err)
	}
	gone, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := client.Encrypt(gone, "a", []byte("content"), nil); ReasonOf(err) != Cancelled {
		t.Fatal(err)
	}
}

func TestAServiceWithoutAnAddressIsNamed(t *testing.T) {
	client := clientOf(t, filepath.Join(t.TempDir(), "trust.pem"), "")
	if _, err := client.Encrypt(t.Context(), "a", []byte("content"), nil); ReasonOf(err) != "ENDPOINT_UNKNOWN" {
		t.Fatal(err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	credentials := ClientKeySession{Name: "a", Secret: "very secret"}
	for _, text := range []string{fmt.Sprint(credentials), fmt.Sprintf("%+v", credentials), fmt.Sprintf("%#v", credentials)} {
		if strings.Contains(text, "very secret") {
			t.Error(text)
		}
	}
}
