package encryption

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
)

const (
	dataKeyBytes     = 32
	noncePrefixBytes = 19
	tagBytes         = 16
	derivedBytes     = 12 // of the nonce prefix, which the key of a message is derived from
	maxChunks        = math.MaxUint32
	label            = "strongroom message v2"
)

// messageKeys is what is derived from one data key, for one context and size of chunks; it is used for many messages.
type messageKeys struct {
	headerKey []byte
	block     cipher.Block
	subkey    [aes.BlockSize]byte
}

func newMessageKeys(dataKey []byte, chunkSizeLog2 uint8, digest [digestBytes]byte) (*messageKeys, error) {
	if len(dataKey) != dataKeyBytes {
		return nil, altered()
	}
	info := label + string([]byte{chunkSizeLog2}) + string(digest[:])
	derived, err := hkdf.Key(sha256.New, dataKey, nil, info, 64)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, err
	}
	keys := &messageKeys{headerKey: derived[32:], block: block}
	block.Encrypt(keys.subkey[:], keys.subkey[:])
	double(&keys.subkey)
	return keys, nil
}

// headerTag authenticates a header, and commits to the data key.
func (k *messageKeys) headerTag(header []byte) []byte {
	mac := hmac.New(sha256.New, k.headerKey)
	mac.Write(header)
	return mac.Sum(nil)
}

func (k *messageKeys) verify(header, tag []byte) error {
	if !hmac.Equal(k.headerTag(header), tag) {
		return altered()
	}
	return nil
}

// cipher gives what seals and opens the chunks of the message with this nonce prefix: XAES-256-GCM
// (https://c2sp.org/XAES-256-GCM), whose derived key all chunks of a message share.
func (k *messageKeys) cipher(noncePrefix []byte) (*chunkCipher, error) {
	var key [2 * aes.BlockSize]byte
	for half := range 2 {
		block := key[half*aes.BlockSize:][:aes.BlockSize]
		copy(block, []byte{0, byte(half + 1), 'X', 0})
		copy(block[4:], noncePrefix[:derivedBytes])
		for index := range block {
			block[index] ^= k.subkey[index]
		}
		k.block.Encrypt(block, block)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	made := &chunkCipher{aead: aead}
	copy(made.nonce[:], noncePrefix[derivedBytes:])
	return made, nil
}

// chunkCipher is one message's cipher with its nonces. It is for one goroutine at a time.
type chunkCipher struct {
	aead  cipher.AEAD
	nonce [derivedBytes]byte
}

// seal appends the encrypted chunk to sealed.
func (c *chunkCipher) seal(sealed []byte, number uint64, last bool, content []byte) ([]byte, error) {
	nonce, err := c.nonceOf(number, last)
	if err != nil {
		return nil, err
	}
	return c.aead.Seal(sealed, nonce, content, nil), nil
}

// open verifies a chunk and appends its content.
func (c *chunkCipher) open(content []byte, number uint64, last bool, sealed []byte) ([]byte, error) {
	nonce, err := c.nonceOf(number, last)
	if err != nil {
		return nil, err
	}
	opened, err := c.aead.Open(content, nonce, sealed, nil)
	if err != nil {
		return nil, altered()
	}
	return opened, nil
}

func (c *chunkCipher) nonceOf(number uint64, last bool) ([]byte, error) {
	if number >= maxChunks {
		return nil, tooLarge()
	}
	binary.BigEndian.PutUint32(c.nonce[7:], uint32(number))
	c.nonce[11] = 0
	if last {
		c.nonce[11] = 1
	}
	return c.nonce[:], nil
}

// layout says where the chunks of a body are, by its length behind the nonce prefix.
type layout struct {
	chunkSize, contentBytes, chunks uint64
}

func layoutOf(bodyBytes, chunkSize uint64) (layout, error) {
	if bodyBytes < tagBytes {
		return layout{}, altered()
	}
	sealed := chunkSize + tagBytes
	chunks := (bodyBytes-1)/sealed + 1
	if chunks > maxChunks {
		return layout{}, tooLarge()
	}
	last := bodyBytes - (chunks-1)*sealed
	// One content has one encoding: an empty chunk is for an empty message alone.
	if last < tagBytes || (last == tagBytes && chunks > 1) {
		return layout{}, altered()
	}
	return layout{chunkSize, bodyBytes - chunks*tagBytes, chunks}, nil
}

// sealedRange says where a chunk begins behind the nonce prefix, and how many bytes it has, tag included.
func (l layout) sealedRange(number uint64) (start, size uint64) {
	return number * (l.chunkSize + tagBytes), min(l.chunkSize, l.contentBytes-number*l.chunkSize) + tagBytes
}

// seal appends nonce prefix and chunks of a content to what a message begins with.
func (k *messageKeys) seal(beginning, content, noncePrefix []byte, chunkSize int) ([]byte, error) {
	chunks := max(1, (len(content)+chunkSize-1)/chunkSize)
	message := make([]byte, 0, len(beginning)+noncePrefixBytes+len(content)+chunks*tagBytes)
	message = append(append(message, beginning...), noncePrefix...)
	cipher, err := k.cipher(noncePrefix)
	if err != nil {
		return nil, err
	}
	for number := range chunks {
		piece := content[number*chunkSize : min(len(content), (number+1)*chunkSize)]
		if message, err = cipher.seal(message, uint64(number), number == chunks-1, piece); err != nil {
			return nil, err
		}
	}
	return message, nil
}

// open gives the content of the body of a message, all of it or nothing.
func (k *messageKeys) open(body []byte, chunkSize int) ([]byte, error) {
	if len(body) < noncePrefixBytes+tagBytes {
		return nil, altered()
	}
	chunks := body[noncePrefixBytes:]
	where, err := layoutOf(uint64(len(chunks)), uint64(chunkSize))
	if err != nil {
		return nil, err
	}
	cipher, err := k.cipher(body[:noncePrefixBytes])
	if err != nil {
		return nil, err
	}
	content := make([]byte, 0, where.contentBytes)
	for number := range where.chunks {
		start, size := where.sealedRange(number)
		if content, err = cipher.open(content, number, number == where.chunks-1, chunks[start:start+size]); err != nil {
			return nil, err
		}
	}
	return content, nil
}

func newNoncePrefix() []byte {
	prefix := make([]byte, noncePrefixBytes)
	rand.Read(prefix) // ends the process where the system has no randomness; it never answers an error
	return prefix
}

// double makes the encryption of the zero block the first subkey of CMAC (NIST SP 800-38B, section 6.1).
func double(block *[aes.BlockSize]byte) {
	overflow := block[0] >> 7
	for index := range block {
		block[index] <<= 1
		if index+1 < len(block) {
			block[index] |= block[index+1] >> 7
		}
	}
	block[len(block)-1] ^= 0x87 * overflow
}
