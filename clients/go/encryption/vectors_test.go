package encryption

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/codes"

	"github.com/strongroom/strongroom/clients/go/strongroom"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	decoded, err := hex.DecodeString(string(text))
	*h = decoded
	return err
}

type answer struct {
	Mesh, Key, Alias string
	Encrypted        hexBytes          `json:"encrypted_data_key"`
	Context          map[string]string `json:"context"`
	DataKey          hexBytes          `json:"data_key"`
	RefusedWith      string            `json:"refused_with"`
	Code             string
}

type vector struct {
	Name           string
	Accepted       []struct{ Key, Mesh string }
	Context        map[string]string
	Answers        []answer
	Message        hexBytes
	Content        hexBytes
	RefusedWith    string            `json:"refused_with"`
	Reasons        [][3]any          `json:"reasons"`
	DataKey        hexBytes          `json:"data_key"`
	WrittenContext map[string]string `json:"written_context"`
	ContextForm    string            `json:"context_form"`
	ChunkSizeLog2  uint8             `json:"chunk_size_log2"`
	WrappedKeys    []struct {
		Key, Mesh string
		Encrypted hexBytes `json:"encrypted_data_key"`
	} `json:"wrapped_keys"`
	Header, HeaderTag hexBytes
	NoncePrefix       hexBytes `json:"nonce_prefix"`
	BodyBytes         uint64   `json:"body_bytes"`
	Chunks            uint64
	ContentBytes      uint64 `json:"content_bytes"`
}

type vectorFile struct{ Valid, Refused, Flipped, Truncated, Layouts []vector }

func vectors(t testing.TB) vectorFile {
	t.Helper()
	text, err := os.ReadFile("../../../tests/vectors/encrypted_message.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Valid) < 20 || len(file.Refused) < 100 || len(file.Flipped) < 2 || len(file.Truncated) < 2 || len(file.Layouts) < 40 {
		t.Fatal("there are fewer vectors than there were")
	}
	return file
}

// answering is what a mesh answers, by a vector.
type answering struct {
	answers *[]answer
	mesh    string
}

func (a answering) KeyName(name string) (string, error) { return name, nil }

func (a answering) GenerateDataKey(context.Context, string, map[string]string) (*cryptov1.GenerateDataKeyResponse, error) {
	return nil, errors.New("not for readers")
}

func (a answering) Encrypt(context.Context, string, []byte, map[string]string) (*cryptov1.EncryptResponse, error) {
	return nil, errors.New("not for readers")
}

func (a answering) Decrypt(_ context.Context, key string, sealed []byte, pairs map[string]string) (*cryptov1.DecryptResponse, error) {
	for _, one := range *a.answers {
		if one.Mesh != a.mesh || !bytes.Equal(one.Encrypted, sealed) {
			continue
		}
		if one.RefusedWith != "" {
			return nil, &strongroom.Error{Reason: one.RefusedWith, Code: codeOf(one.Code)}
		}
		if key != "" && key != one.Key && key != one.Alias {
			return nil, &strongroom.Error{Reason: "KEY_MISMATCH", Code: codes.InvalidArgument}
		}
		if len(one.Context) == 0 && len(pairs) == 0 || reflect.DeepEqual(one.Context, pairs) {
			return &cryptov1.DecryptResponse{Plaintext: one.DataKey, Key: one.Key}, nil
		}
	}
	return nil, &strongroom.Error{Reason: "CIPHERTEXT_INVALID", Code: codes.InvalidArgument}
}

func codeOf(name string) codes.Code {
	for code := range codes.Code(17) {
		var named codes.Code
		if json.Unmarshal([]byte(`"`+name+`"`), &named) == nil && named == code {
			return code
		}
	}
	return codes.InvalidArgument
}

func (v *vector) client(t *testing.T, options ...Option) *Client {
	t.Helper()
	var keys []Key
	for _, one := range v.Accepted {
		if one.Key == "" {
			one.Key = AnyKey
		}
		keys = append(keys, Key{one.Key, answering{&v.Answers, one.Mesh}, one.Mesh})
	}
	client, err := New(nil, keys, options...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// reads are all ways to read a message.
var reads = map[string]func(*Client, []byte, map[string]string) ([]byte, error){
	"at once": func(client *Client, message []byte, pairs map[string]string) ([]byte, error) {
		return client.Decrypt(context.Background(), message, pairs)
	},
	"twice": func(client *Client, message []byte, pairs map[string]string) ([]byte, error) {
		client.Decrypt(context.Background(), message, pairs)
		return client.Decrypt(context.Background(), message, pairs)
	},
	"as a stream": func(client *Client, message []byte, pairs map[string]string) ([]byte, error) {
		reader, err := client.NewReader(context.Background(), iotest.OneByteReader(bytes.NewReader(message)), pairs)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(reader)
	},
	"anywhere": func(client *Client, message []byte, pairs map[string]string) ([]byte, error) {
		reader, err := client.NewReaderAt(context.Background(), bytes.NewReader(message), int64(len(message)), pairs)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.NewSectionReader(reader, 0, reader.Size()))
	},
}

func TestEveryMessageIsRead(t *testing.T) {
	for _, one := range vectors(t).Valid {
		for way, read := range reads {
			content, err := read(one.client(t, WithCache(1<<40)), one.Message, one.Context)
			if err != nil || !bytes.Equal(content, one.Content) {
				t.Errorf("%s, %s: %v", one.Name, way, err)
			}
		}
	}
}

func TestEveryRefusalHasItsReason(t *testing.T) {
	for _, one := range vectors(t).Refused {
		if len(one.Accepted) == 0 {
			continue // no client is made that accepts no key
		}
		for way, read := range reads {
			_, err := read(one.client(t, WithCache(1<<40)), one.Message, one.Context)
			if strongroom.ReasonOf(err) != one.RefusedWith {
				t.Errorf("%s, %s: %v, not %s", one.Name, way, err, one.RefusedWith)
			}
		}
	}
}

func TestEveryFlippedBitAndEveryLengthIsRefused(t *testing.T) {
	file := vectors(t)
	for _, one := range file.Flipped {
		for _, run := range one.Reasons {
			for bit := int(run[0].(float64)); bit <= int(run[1].(float64)); bit++ {
				message := bytes.Clone(one.Message)
				message[bit/8] ^= 1 << (bit % 8)
				one.refuses(t, message, run[2].(string), bit)
			}
		}
	}
	for _, one := range file.Truncated {
		for _, run := range one.Reasons {
			for length := int(run[0].(float64)); length <= int(run[1].(float64)); length++ {
				one.refuses(t, one.Message[:length], run[2].(string), length)
			}
		}
	}
}

func (v *vector) refuses(t *testing.T, message []byte, reason string, at int) {
	t.Helper()
	for way, read := range reads {
		if _, err := read(v.client(t), message, v.Context); strongroom.ReasonOf(err) != reason {
			t.Errorf("%s at %d, %s: %v, not %s", v.Name, at, way, err, reason)
		}
	}
}

func TestLayouts(t *testing.T) {
	for _, one := range vectors(t).Layouts {
		found, err := layoutOf(one.BodyBytes, 1<<one.ChunkSizeLog2)
		if strongroom.ReasonOf(err) != one.RefusedWith || found.chunks != one.Chunks || found.contentBytes != one.ContentBytes {
			t.Errorf("%d bytes in chunks of 2^%d: %v %v", one.BodyBytes, one.ChunkSizeLog2, found, err)
		}
	}
}

func TestMessagesAreWrittenByteForByte(t *testing.T) {
	for _, one := range vectors(t).Valid {
		canonical, err := canonicalContext(one.WrittenContext)
		if err != nil {
			t.Fatal(err)
		}
		written := header{chunkSizeLog2: one.ChunkSizeLog2, digest: sha256.Sum256(canonical)}
		if one.ContextForm == "whole" {
			if written.context = one.WrittenContext; written.context == nil {
				written.context = map[string]string{}
			}
		}
		for _, wrapped := range one.WrappedKeys {
			written.wrappedKeys = append(written.wrappedKeys, wrappedKey{wrapped.Key, wrapped.Mesh, wrapped.Encrypted})
		}
		data, err := written.bytes()
		if err != nil {
			t.Fatal(one.Name, err)
		}
		keys, err := newMessageKeys(one.DataKey, one.ChunkSizeLog2, written.digest)
		if err != nil {
			t.Fatal(err)
		}
		message, err := keys.seal(append(data, keys.headerTag(data)...), one.Content, one.NoncePrefix, 1<<one.ChunkSizeLog2)
		if err != nil || !bytes.Equal(message, one.Message) {
			t.Errorf("%s: another message was written: %v", one.Name, err)
		}
	}
}

func TestAChunkBeyondTheLastNumberIsNeitherWrittenNorRead(t *testing.T) {
	keys, err := newMessageKeys(make([]byte, dataKeyBytes), 6, [digestBytes]byte{})
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := keys.cipher(make([]byte, noncePrefixBytes))
	if err != nil {
		t.Fatal(err)
	}
	const last = 1<<32 - 2
	sealed, err := cipher.seal(nil, last, true, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := cipher.open(nil, last, true, sealed); err != nil || string(content) != "a" {
		t.Error(content, err)
	}
	if _, err := cipher.seal(nil, last+1, true, []byte("a")); strongroom.ReasonOf(err) != "MESSAGE_TOO_LARGE" {
		t.Error(err)
	}
	if _, err := cipher.open(nil, last+1, true, sealed); strongroom.ReasonOf(err) != "MESSAGE_TOO_LARGE" {
		t.Error(err)
	}
}
