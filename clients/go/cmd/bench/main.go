// Command bench says what messages and streams cost beside bare AES-256-GCM, for `python -m bench sdk`:
//
//	bench ROUNDS
//
// What is compared takes turns; the figures are the medians of how many times as fast the SDK is as the bare cipher.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/clients/go/encryption"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
)

const (
	kib      = 1 << 10
	messages = 5000
	chunk    = 1 << 16
	streamed = 32 << 20
	tagBytes = 16
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("USAGE: bench ROUNDS")
	}
	rounds, err := strconv.Atoi(arguments[0])
	if err != nil {
		return err
	}
	client, err := encryption.New(atHand{}, encryption.Named("bench"), encryption.WithCache(time.Hour))
	if err != nil {
		return err
	}
	aead, err := bareCipher()
	if err != nil {
		return err
	}
	var kibs, streams []float64
	for range rounds + 1 {
		bare, own := timed(func() error { return bareMessages(aead) }), timed(func() error { return ownMessages(client) })
		kibs = append(kibs, bare/own)
		bare, own = timed(func() error { return bareStream(aead) }), timed(func() error { return ownStream(client) })
		streams = append(streams, bare/own)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"kib_vs_bare": median(kibs), "stream_vs_bare": median(streams),
	})
}

func bareCipher() (cipher.AEAD, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bareMessages makes messages as short as can be: a random nonce and the ciphertext.
func bareMessages(aead cipher.AEAD) error {
	content := make([]byte, kib)
	for range messages {
		message := make([]byte, 12, 12+kib+tagBytes)
		rand.Read(message)
		aead.Seal(message, message, content, nil)
	}
	return nil
}

func ownMessages(client *encryption.Client) error {
	ctx, content := context.Background(), make([]byte, kib)
	for range messages {
		if _, err := client.Encrypt(ctx, content, nil); err != nil {
			return err
		}
	}
	return nil
}

func bareStream(aead cipher.AEAD) error {
	content, sealed, nonce := make([]byte, chunk), make([]byte, 0, chunk+tagBytes), make([]byte, 12)
	for range streamed / chunk {
		if _, err := io.Discard.Write(aead.Seal(sealed, nonce, content, nil)); err != nil {
			return err
		}
	}
	return nil
}

func ownStream(client *encryption.Client) error {
	piece := make([]byte, 1<<18)
	writer, err := client.NewWriter(context.Background(), io.Discard, nil)
	if err != nil {
		return err
	}
	for range streamed / len(piece) {
		if _, err := writer.Write(piece); err != nil {
			return err
		}
	}
	return writer.Close()
}

// atHand stands for a mesh that costs nothing, since the data key is at hand.
type atHand struct{}

func (atHand) KeyName(name string) (string, error) { return "accounts/main/keys/" + name, nil }

func (atHand) GenerateDataKey(_ context.Context, key string, _ map[string]string) (*cryptov1.GenerateDataKeyResponse, error) {
	return &cryptov1.GenerateDataKeyResponse{Plaintext: make([]byte, 32), Ciphertext: make([]byte, 94), Key: key}, nil
}

func (atHand) Encrypt(context.Context, string, []byte, map[string]string) (*cryptov1.EncryptResponse, error) {
	return nil, errors.New("nothing is encrypted here")
}

func (atHand) Decrypt(context.Context, string, []byte, map[string]string) (*cryptov1.DecryptResponse, error) {
	return nil, errors.New("nothing is decrypted here")
}

func timed(work func() error) float64 {
	began := time.Now()
	if err := work(); err != nil {
		panic(err)
	}
	return time.Since(began).Seconds()
}

// median leaves the first round out, in which caches are cold.
func median(quotients []float64) float64 {
	rest := slices.Sorted(slices.Values(quotients[1:]))
	return rest[len(rest)/2]
}
