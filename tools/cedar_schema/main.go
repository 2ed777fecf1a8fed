// Writes a Cedar schema that is read from standard input as JSON: what GetSchema answers beside the text.
//
//	cd tools/cedar_schema
//	go run . <../../services/keystore/access/policies/strongroom.cedarschema >../../services/keystore/access/policies/strongroom.cedarschema.json
package main

import (
	"io"
	"log"
	"os"

	"github.com/cedar-policy/cedar-go/x/exp/schema"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	var parsed schema.Schema
	if err := parsed.UnmarshalCedar(text); err != nil {
		log.Fatal(err)
	}
	converted, err := parsed.MarshalJSON()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(append(converted, '\n')); err != nil {
		log.Fatal(err)
	}
}
