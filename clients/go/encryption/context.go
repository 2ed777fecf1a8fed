package encryption

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

const (
	digestBytes     = sha256.Size
	maxContextBytes = 8192
)

// canonicalContext gives the canonical bytes of an encryption context (docs/formats.md, "Encryption context"): equal
// contexts have equal bytes, different ones never.
func canonicalContext(pairs map[string]string) ([]byte, error) {
	if len(pairs) > maxContextBytes/4 {
		return nil, contextTooLarge()
	}
	size, names := 2, make([]string, 0, len(pairs))
	for name, value := range pairs {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fieldInvalid("context", "the encryption context holds something that is no text in UTF-8")
		}
		size += 4 + len(name) + len(value)
		names = append(names, name)
	}
	if _, empty := pairs[""]; empty {
		return nil, fieldInvalid("context", "the encryption context has an empty key")
	}
	if size > maxContextBytes {
		return nil, contextTooLarge()
	}
	slices.Sort(names)
	data := binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(len(names)))
	for _, name := range names {
		data = appendText(appendText(data, name), pairs[name])
	}
	return data, nil
}

// pairsOf reads canonical bytes, and refuses any others as altered.
func pairsOf(canonical []byte) (map[string]string, error) {
	if len(canonical) < 2 || len(canonical) > maxContextBytes {
		return nil, altered()
	}
	rest := fields{data: canonical}
	pairs, before := map[string]string{}, ""
	for range rest.uint16() {
		name, value := string(rest.take(int(rest.uint16()))), string(rest.take(int(rest.uint16())))
		// The first key is more than nothing, each further one more than the one before.
		if rest.short || strings.Compare(name, before) <= 0 || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, altered()
		}
		pairs[name], before = value, name
	}
	if !rest.atEnd() {
		return nil, altered()
	}
	return pairs, nil
}

func contextTooLarge() error {
	text := fmt.Sprintf("the encryption context has more than %d bytes", maxContextBytes)
	return refused("FIELD_TOO_LARGE", codes.InvalidArgument, "context", text)
}

func appendText(data []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(data, uint16(len(text))), text...)
}

// fields takes bytes off the front of data. What is taken beyond the end is empty, and remembered as short.
type fields struct {
	data  []byte
	short bool
}

func (f *fields) take(size int) []byte {
	if size > len(f.data) {
		f.short, f.data = true, nil
		return nil
	}
	taken := f.data[:size]
	f.data = f.data[size:]
	return taken
}

func (f *fields) uint16() uint16 {
	if taken := f.take(2); taken != nil {
		return binary.BigEndian.Uint16(taken)
	}
	return 0
}

func (f *fields) uint8() uint8 {
	if taken := f.take(1); taken != nil {
		return taken[0]
	}
	return 0
}

func (f *fields) atEnd() bool { return !f.short && len(f.data) == 0 }
