// Example: a message under a key of the mesh that `make run` starts.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/strongroom/strongroom/clients/go/encryption"
	"github.com/strongroom/strongroom/clients/go/strongroom"
)

func main() {
	client, err := strongroom.FromProfile("")
	check(err)
	defer client.Close()
	messages, err := encryption.New(client, encryption.Named("my-key"), encryption.WithCache(5*time.Minute))
	check(err)
	tenant := map[string]string{"tenant": "a"}
	message, err := messages.Encrypt(context.Background(), []byte("4111 1111 1111 1111"), tenant)
	check(err)
	content, err := messages.Decrypt(context.Background(), message, tenant)
	check(err)
	fmt.Printf("%d bytes of message hold: %s\n", len(message), content)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
