package encryption

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/strongroom/strongroom/clients/go/strongroom"
)

// What the SDK costs beside AES-256-GCM alone: `go test -bench . ./encryption`.

func bare(b *testing.B) cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	return aead
}

func BenchmarkKiBBare(b *testing.B) {
	aead, content := bare(b), make([]byte, 1024)
	b.SetBytes(1024)
	for b.Loop() {
		nonce := make([]byte, 12)
		rand.Read(nonce)
		aead.Seal(nil, nonce, content, nil)
	}
}

func BenchmarkKiB(b *testing.B) {
	client, err := New(&wrapping{}, Named("a"), WithCache(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	content, tenant := make([]byte, 1024), map[string]string{"tenant": "a"}
	b.SetBytes(1024)
	for b.Loop() {
		if _, err := client.Encrypt(context.Background(), content, tenant); err != nil {
			b.Fatal(err)
		}
	}
}

const streamed = 64 << 20

func BenchmarkStreamBare(b *testing.B) {
	aead, content, sealed := bare(b), make([]byte, 1<<16), make([]byte, 0, 1<<16+tagBytes)
	nonce := make([]byte, 12)
	b.SetBytes(streamed)
	for b.Loop() {
		for range streamed >> 16 {
			io.Discard.Write(aead.Seal(sealed, nonce, content, nil))
		}
	}
}

func BenchmarkStream(b *testing.B) {
	client, err := New(&wrapping{}, Named("a"), WithCache(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, 1<<18)
	b.SetBytes(streamed)
	for b.Loop() {
		writer, err := client.NewWriter(context.Background(), io.Discard, nil)
		if err != nil {
			b.Fatal(err)
		}
		for range streamed / len(content) {
			writer.Write(content)
		}
		if err := writer.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzHeader looks for a header whose bytes another header writes, or that takes more than an error to refuse:
// `go test -fuzz FuzzHeader ./encryption`.
func FuzzHeader(f *testing.F) {
	file := vectors(f)
	for _, one := range append(file.Valid, file.Refused...) {
		f.Add([]byte(one.Message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		found, err := readHeader(bytes.NewReader(message))
		if err != nil {
			if strongroom.ReasonOf(err) == "" {
				t.Fatal(err)
			}
			return
		}
		written, err := found.bytes()
		if err != nil || !bytes.Equal(written, found.data) {
			t.Fatalf("%x was read, and %x written: %v", found.data, written, err)
		}
	})
}
