// Command crypt encrypts standard input to standard output, or decrypts it, as the current profile's caller:
//
//	crypt encrypt --key payments --context tenant=a <content >message
//	crypt decrypt --key payments --context tenant=a <message >content
//
// A refusal is exit status 1, and its stable reason the first word on standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/strongroom/strongroom/clients/go/encryption"
	"github.com/strongroom/strongroom/clients/go/strongroom"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	keys         []encryption.Key
	pairs        map[string]string
	storeContext bool
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("USAGE: crypt encrypt|decrypt --key KEY… [--context NAME=VALUE…] [--store-context]")
	}
	var chosen options
	flags := flag.NewFlagSet("crypt", flag.ExitOnError)
	flags.BoolVar(&chosen.storeContext, "store-context", false, "write the context itself into the message")
	flags.Func("key", "a key's id, alias/{alias} or full name, or * for any; may be repeated", func(name string) error {
		chosen.keys = append(chosen.keys, encryption.Key{Name: name})
		return nil
	})
	flags.Func("context", "a pair NAME=VALUE of the encryption context; may be repeated", func(pair string) error {
		name, value, separated := strings.Cut(pair, "=")
		if !separated {
			return errors.New("is not of the form NAME=VALUE")
		}
		if chosen.pairs == nil {
			chosen.pairs = map[string]string{}
		}
		chosen.pairs[name] = value
		return nil
	})
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	client, err := strongroom.FromProfile("")
	if err != nil {
		return err
	}
	defer client.Close()
	return chosen.crypt(client, arguments[0])
}

func (o options) crypt(client *strongroom.Client, verb string) error {
	var more []encryption.Option
	if o.storeContext {
		more = append(more, encryption.StoreContext())
	}
	messages, err := encryption.New(client, o.keys, more...)
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch verb {
	case "encrypt":
		writer, err := messages.NewWriter(ctx, os.Stdout, o.pairs)
		if err != nil {
			return err
		}
		if _, err := io.Copy(writer, os.Stdin); err != nil {
			return err
		}
		return writer.Close()
	case "decrypt":
		reader, err := messages.NewReader(ctx, os.Stdin, o.pairs)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, reader)
		return err
	}
	return errors.New("USAGE: encrypt or decrypt, not " + verb)
}
