package encryption

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
)

const (
	magic                    = "\x89SRFILE"
	version                  = 2
	fixedBytes               = 13
	headerTagBytes           = 32
	minChunkSizeLog2         = 6
	maxChunkSizeLog2         = 20
	defaultChunkSizeLog2     = 16
	maxWrappedKeys           = 16
	maxHintBytes             = 255
	maxEncryptedDataKeyBytes = 2048
	digestForm               = 0
	wholeForm                = 1
)

// wrappedKey is a data key, encrypted by a mesh under one of its keys; key and mesh are hints.
type wrappedKey struct {
	key, mesh        string
	encryptedDataKey []byte
}

// header is what a message says before its body. context is nil where the message holds only its digest.
type header struct {
	chunkSizeLog2 uint8
	digest        [digestBytes]byte
	context       map[string]string
	wrappedKeys   []wrappedKey
}

// foundHeader is a header as it was found: its bytes, and the tag behind them, which nobody has verified yet.
type foundHeader struct {
	header
	data, tag []byte
}

func (h *header) chunkSize() int { return 1 << h.chunkSizeLog2 }

// bytes gives the header as it is in the message, without its tag.
func (h *header) bytes() ([]byte, error) {
	if h.chunkSizeLog2 < minChunkSizeLog2 || h.chunkSizeLog2 > maxChunkSizeLog2 {
		return nil, fieldInvalid("chunk_size_log2", "chunks have 2^6 to 2^20 bytes")
	}
	if len(h.wrappedKeys) == 0 || len(h.wrappedKeys) > maxWrappedKeys {
		return nil, fieldInvalid("keys", "a message is under 1 to 16 keys")
	}
	form, rest := byte(digestForm), append([]byte(nil), h.digest[:]...)
	if h.context != nil {
		canonical, err := canonicalContext(h.context)
		if err != nil {
			return nil, err
		}
		form, rest = wholeForm, append(binary.BigEndian.AppendUint16(nil, uint16(len(canonical))), canonical...)
	}
	for _, wrapped := range h.wrappedKeys {
		if !isHint([]byte(wrapped.key)) || !isHint([]byte(wrapped.mesh)) {
			return nil, fieldInvalid("keys", "a hint has at most 255 printable ASCII characters and no space")
		}
		if size := len(wrapped.encryptedDataKey); size == 0 || size > maxEncryptedDataKeyBytes {
			return nil, refused("FIELD_TOO_LARGE", codes.InvalidArgument, "keys", "an encrypted data key has 1 to 2,048 bytes")
		}
		rest = append(append(rest, byte(len(wrapped.key))), wrapped.key...)
		rest = append(append(rest, byte(len(wrapped.mesh))), wrapped.mesh...)
		rest = binary.BigEndian.AppendUint16(rest, uint16(len(wrapped.encryptedDataKey)))
		rest = append(rest, wrapped.encryptedDataKey...)
	}
	data := append([]byte(magic), version, h.chunkSizeLog2, form, byte(len(h.wrappedKeys)))
	return append(binary.BigEndian.AppendUint16(data, uint16(len(rest))), rest...), nil
}

// contextFor gives the message's context, where given is that or nothing is given.
func (h *header) contextFor(given map[string]string) (map[string]string, error) {
	if given == nil && h.context != nil {
		return h.context, nil
	}
	canonical, err := canonicalContext(given)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(canonical) != h.digest {
		return nil, contextMismatch()
	}
	return given, nil
}

// readHeader reads a header with its tag, at most 65,580 bytes.
func readHeader(source io.Reader) (*foundHeader, error) {
	fixed := make([]byte, fixedBytes)
	fixed, err := readUpTo(source, fixed)
	if err != nil {
		return nil, err
	}
	if len(fixed) <= len(magic) || !bytes.HasPrefix(fixed, []byte(magic)) {
		return nil, notRecognized()
	}
	if fixed[7] != version {
		return nil, versionUnknown(fixed[7])
	}
	if len(fixed) != fixedBytes {
		return nil, altered()
	}
	chunkSizeLog2, form, count, length := fixed[8], fixed[9], int(fixed[10]), int(binary.BigEndian.Uint16(fixed[11:]))
	if chunkSizeLog2 < minChunkSizeLog2 || chunkSizeLog2 > maxChunkSizeLog2 {
		return nil, chunkSizeInvalid(chunkSizeLog2)
	}
	if form > wholeForm || count == 0 || count > maxWrappedKeys {
		return nil, altered()
	}
	data := make([]byte, fixedBytes+length+headerTagBytes)
	copy(data, fixed)
	rest, err := readUpTo(source, data[fixedBytes:])
	if err != nil {
		return nil, err
	}
	if len(rest) != length+headerTagBytes {
		return nil, altered()
	}
	found := &foundHeader{data: data[:fixedBytes+length], tag: data[fixedBytes+length:]}
	found.chunkSizeLog2 = chunkSizeLog2
	return found, found.readRest(form, count)
}

func (h *foundHeader) readRest(form byte, count int) error {
	rest := fields{data: h.data[fixedBytes:]}
	if form == digestForm {
		copy(h.digest[:], rest.take(digestBytes))
	} else {
		canonical := rest.take(int(rest.uint16()))
		pairs, err := pairsOf(canonical)
		if err != nil {
			return err
		}
		h.context, h.digest = pairs, sha256.Sum256(canonical)
	}
	for range count {
		key, mesh := rest.take(int(rest.uint8())), rest.take(int(rest.uint8()))
		size := int(rest.uint16())
		if !isHint(key) || !isHint(mesh) || size == 0 || size > maxEncryptedDataKeyBytes {
			return altered()
		}
		h.wrappedKeys = append(h.wrappedKeys, wrappedKey{string(key), string(mesh), rest.take(size)})
	}
	if !rest.atEnd() {
		return altered()
	}
	return nil
}

func isHint(text []byte) bool {
	for _, char := range text {
		if char < 0x21 || char > 0x7e {
			return false
		}
	}
	return len(text) <= maxHintBytes
}

// readUpTo fills buffer, or as much of it as there is until the source ends.
func readUpTo(source io.Reader, buffer []byte) ([]byte, error) {
	count, err := io.ReadFull(source, buffer)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return buffer[:count], nil
}
