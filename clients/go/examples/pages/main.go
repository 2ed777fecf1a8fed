// The programs of docs/languages/go.md and of the client's README. tests/unit/tools/test_language_pages.py holds those to
// this file, which is compiled and vetted with the client.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/strongroom/strongroom/clients/go/encryption"
	"github.com/strongroom/strongroom/clients/go/strongroom"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
)

func main() {
	ctx := context.Background()
	for _, program := range []func(context.Context) error{encryptMessages, encryptInTheMesh, encryptElsewhere} {
		if err := program(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

func encryptMessages(ctx context.Context) error {
	content := []byte("4111 1111 1111 1111")
	client, err := strongroom.FromProfile("") // or strongroom.New(strongroom.Config{…})
	if err != nil {
		return err
	}
	defer client.Close()
	messages, err := encryption.New(client, encryption.Named("payments", "escrow"), encryption.WithCache(5*time.Minute))
	if err != nil {
		return err
	}
	message, err := messages.Encrypt(ctx, content, map[string]string{"tenant": "a"})
	if err != nil {
		return err
	}
	opened, err := messages.Decrypt(ctx, message, map[string]string{"tenant": "a"})
	fmt.Println(len(opened))
	return err
}

func encryptInTheMesh(ctx context.Context) error {
	client, err := strongroom.FromProfile("")
	if err != nil {
		return err
	}
	defer client.Close()
	sealed, err := client.Crypto.Encrypt(ctx, &cryptov1.EncryptRequest{
		Key:               "accounts/shop/keys/payments",
		Plaintext:         []byte("4111 1111 1111 1111"),
		EncryptionContext: map[string]string{"tenant": "a"},
	})
	if strongroom.ReasonOf(err) == "KEY_DISABLED" {
		return fmt.Errorf("somebody has to enable it: %w", err)
	}
	fmt.Println(len(sealed.GetCiphertext()))
	return err
}

func encryptElsewhere(context.Context) error {
	client, err := strongroom.New(strongroom.Config{
		Endpoints: map[string]string{
			"keystore": "kms-1.example.com:7101,kms-2.example.com:7101",
			"crypto":   "kms-1.example.com:7111,kms-2.example.com:7111",
		},
		Account: "shop",
		Trust:   "/etc/strongroom/authority.pem",
		Credentials: strongroom.ClientKeySession{
			Name:       "accounts/shop/clientKeys/ck-3m5t7qz2k4r6xvbn",
			SecretFile: "/run/secrets/strongroom",
		},
	})
	if err != nil {
		return err
	}
	client.Close()
	return nil
}
