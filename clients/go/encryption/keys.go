package encryption

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/strongroom/strongroom/clients/go/strongroom"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
)

// AnyKey is, in place of the name of a key that a reader accepts, every key that its client may use. Whoever can write
// messages chooses the key then: it is for tools that people use, not for services.
const AnyKey = "*"

const maxAttempts = 16

// Calls is what of a mesh's client the SDK needs: *strongroom.Client, or what stands in its place.
type Calls interface {
	// KeyName completes the name of a key or alias.
	KeyName(name string) (string, error)
	// GenerateDataKey makes a data key of 32 bytes, in the clear and encrypted under a key.
	GenerateDataKey(ctx context.Context, key string, pairs map[string]string) (*cryptov1.GenerateDataKeyResponse, error)
	// Encrypt encrypts under a key.
	Encrypt(ctx context.Context, key string, plaintext []byte, pairs map[string]string) (*cryptov1.EncryptResponse, error)
	// Decrypt decrypts, with a key only what is under it.
	Decrypt(ctx context.Context, key string, ciphertext []byte, pairs map[string]string) (*cryptov1.DecryptResponse, error)
}

// Key is a key of a mesh.
type Key struct {
	// Name is an id (`payments`), `alias/{alias}`, a full name, or AnyKey, which is for decryption alone.
	Name string
	// Calls reaches the key's mesh; nil stands for the Calls that New got.
	Calls Calls
	// Mesh tells keys of different meshes apart where messages are under several: a word that writers and readers
	// agree on. A reader never connects to an address that a message names.
	Mesh string
}

// Named gives the keys with these names, of the mesh of the Calls that New gets.
func Named(names ...string) []Key {
	keys := make([]Key, 0, len(names))
	for _, name := range names {
		keys = append(keys, Key{Name: name})
	}
	return keys
}

// completed gives the keys with full names and Calls, each once; that of AnyKey is empty.
func completed(calls Calls, given []Key) ([]Key, error) {
	keys, known := make([]Key, 0, len(given)), map[Key]bool{}
	for _, key := range given {
		if key.Calls == nil {
			key.Calls = calls
		}
		switch key.Name {
		case "":
			// A name that was not configured must not come to mean every key.
			return nil, refused("FIELD_REQUIRED", codes.InvalidArgument, "keys", "a key has no name; for every key say AnyKey")
		case AnyKey:
			key.Name = ""
		default:
			name, err := key.Calls.KeyName(key.Name)
			if err != nil {
				return nil, err
			}
			key.Name = name
		}
		if !known[key] {
			keys, known[key] = append(keys, key), true
		}
	}
	if len(keys) == 0 {
		return nil, refused("FIELD_REQUIRED", codes.InvalidArgument, "keys", "name at least one key")
	}
	return keys, nil
}

// newDataKey has a data key made under the first key, and wrapped under each other one.
func newDataKey(ctx context.Context, keys []Key, pairs map[string]string, nameKeys bool) ([]byte, []wrappedKey, error) {
	if len(keys) > maxWrappedKeys {
		return nil, nil, fieldInvalid("keys", "a message is under at most 16 keys")
	}
	first := keys[0]
	made, err := first.Calls.GenerateDataKey(ctx, first.Name, pairs)
	if err != nil {
		return nil, nil, advised(first, err)
	}
	if len(made.GetPlaintext()) != dataKeyBytes {
		return nil, nil, fieldInvalid("keys", "the mesh answered a data key that has not 32 bytes")
	}
	wrapped := []wrappedKey{wrappedAs(first, made.GetKey(), made.GetCiphertext(), nameKeys)}
	others, err := wrappedUnder(ctx, keys[1:], made.GetPlaintext(), pairs, nameKeys)
	return made.GetPlaintext(), append(wrapped, others...), err
}

func wrappedUnder(
	ctx context.Context, keys []Key, dataKey []byte, pairs map[string]string, nameKeys bool,
) ([]wrappedKey, error) {
	wrapped := make([]wrappedKey, 0, len(keys))
	for _, key := range keys {
		answer, err := key.Calls.Encrypt(ctx, key.Name, dataKey, pairs)
		if err != nil {
			return nil, advised(key, err)
		}
		wrapped = append(wrapped, wrappedAs(key, answer.GetKey(), answer.GetCiphertext(), nameKeys))
	}
	return wrapped, nil
}

func wrappedAs(key Key, name string, encryptedDataKey []byte, nameKeys bool) wrappedKey {
	if !nameKeys {
		name = ""
	}
	return wrappedKey{name, key.Mesh, encryptedDataKey}
}

// attempt is a call that may open a message, by what its header says.
type attempt struct {
	wrapped wrappedKey
	key     Key
}

func fitting(wrappedKeys []wrappedKey, accepted []Key) ([]attempt, error) {
	var attempts []attempt
	var hints []string
	for _, wrapped := range wrappedKeys {
		for _, key := range accepted {
			if fits(wrapped, key) && len(attempts) < maxAttempts {
				attempts = append(attempts, attempt{wrapped, key})
			}
		}
		if wrapped.key != "" {
			hints = append(hints, wrapped.key)
		}
	}
	if len(attempts) == 0 {
		return nil, keyNotAccepted(strings.Join(hints, ", "))
	}
	return attempts, nil
}

func fits(wrapped wrappedKey, key Key) bool {
	if wrapped.mesh != "" && key.Mesh != "" && wrapped.mesh != key.Mesh {
		return false
	}
	// What an alias stands for, its mesh knows.
	return wrapped.key == "" || key.Name == "" || wrapped.key == key.Name || strings.Contains(key.Name, "/aliases/")
}

// firstAnswer gives the data key of the first attempt that the mesh does not refuse. Where all are refused, the first
// refusal counts, or before it the first by a mesh that could not serve: another time it may do better.
func firstAnswer(ctx context.Context, attempts []attempt, pairs map[string]string) ([]byte, error) {
	var refusal, away error
	for _, one := range attempts {
		answer, err := one.key.Calls.Decrypt(ctx, one.key.Name, one.wrapped.encryptedDataKey, pairs)
		if err == nil {
			err = checked(answer, one.wrapped)
		}
		if err == nil {
			return answer.GetPlaintext(), nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if refusal == nil {
			refusal = err
		}
		if away == nil && isAway(err) {
			away = advised(one.key, err)
		}
	}
	if away != nil {
		return nil, away
	}
	return nil, refusal
}

func checked(answer *cryptov1.DecryptResponse, wrapped wrappedKey) error {
	if wrapped.key != "" && answer.GetKey() != "" && answer.GetKey() != wrapped.key {
		return keyMismatch()
	}
	if len(answer.GetPlaintext()) != dataKeyBytes {
		return altered()
	}
	return nil
}

// isAway tells a mesh that could not serve now from one that has answered.
func isAway(err error) bool {
	var refusal *strongroom.Error
	if !errors.As(err, &refusal) {
		return false
	}
	return refusal.Code == codes.Unavailable || refusal.Code == codes.DeadlineExceeded || refusal.Code == codes.ResourceExhausted
}

func advised(key Key, err error) error {
	var refusal *strongroom.Error
	if !isAway(err) || !errors.As(err, &refusal) {
		return err
	}
	name := key.Name
	if name == "" {
		name = "its key"
	}
	return refusal.WithAdvice("so there is no data key of " + name + ": look at `strongroom status` and at the profile's " +
		"addresses; messages whose data keys a cache holds go on meanwhile")
}
