// Package encryption encrypts messages, files and objects of any size in this process, under data keys that only a mesh
// can open: the content never leaves the process, and the keys never leave the mesh.
//
// Messages have one format in every language (docs/formats.md, "Encrypted message"), so each reads what the others wrote.
package encryption

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"time"
)

// Client encrypts and decrypts. It may be shared between goroutines.
//
// Contexts of encryption are pairs that a message is bound to, not secret, up to 8,192 bytes in all; policies and audit
// events see them. Decryption needs the same pairs; nil stands for the context that the message holds, or for none.
type Client struct {
	calls         Calls
	keys          []Key
	storeContext  bool
	nameKeys      bool
	chunkSizeLog2 uint8
	maxAge        time.Duration
	maxStale      time.Duration
	writing       *cache[*beginning]
	reading       *cache[*opened]
}

// Option says how a Client differs from the usual.
type Option func(*Client)

// StoreContext writes encryption contexts themselves into messages, so that readers need not know them. Otherwise their
// digest is written, by which a context that is easily guessed can be guessed.
func StoreContext() Option { return func(c *Client) { c.storeContext = true } }

// WithoutNames leaves the names of keys out of messages; a reader of several keys then tries each.
func WithoutNames() Option { return func(c *Client) { c.nameKeys = false } }

// ChunkSizeLog2 sets the size of chunks as a power of two, 6 to 20; 16 is usual.
func ChunkSizeLog2(power uint8) Option { return func(c *Client) { c.chunkSizeLog2 = power } }

// WithCache keeps data keys for messages to come, for at most maxAge. A data key at hand works on until then when its
// key is disabled or a permission is taken away, and up to MaxStale longer in a process that cannot reach the mesh. One
// that is in use is replaced ahead of its end, beside messages that go on. At most 1,000 data keys are kept in each direction, and each serves a
// million messages and 64 GiB.
func WithCache(maxAge time.Duration) Option { return func(c *Client) { c.maxAge = maxAge } }

// MaxStale is how long beyond its age a data key of the cache is used while the mesh cannot be reached, 2 minutes unless
// said. What the mesh refuses is never bridged.
func MaxStale(longest time.Duration) Option { return func(c *Client) { c.maxStale = longest } }

// New makes a Client whose messages are encrypted under all of keys, and which accepts messages under any of them.
func New(calls Calls, keys []Key, options ...Option) (*Client, error) {
	client := &Client{calls: calls, nameKeys: true, chunkSizeLog2: defaultChunkSizeLog2, maxStale: defaultMaxStale}
	for _, option := range options {
		option(client)
	}
	if client.chunkSizeLog2 < minChunkSizeLog2 || client.chunkSizeLog2 > maxChunkSizeLog2 {
		return nil, fieldInvalid("chunk_size_log2", "chunks have 2^6 to 2^20 bytes")
	}
	if client.maxAge > 0 {
		client.writing = newCache[*beginning](client.maxAge, client.maxStale)
		client.reading = newCache[*opened](client.maxAge, client.maxStale)
	}
	var err error
	if client.keys, err = completed(calls, keys); err != nil {
		return nil, err
	}
	return client, nil
}

// Encrypt gives the message that holds content, some 240 bytes longer with one key.
func (c *Client) Encrypt(ctx context.Context, content []byte, pairs map[string]string) ([]byte, error) {
	begun, err := c.begin(ctx, pairs, len(content))
	if err != nil {
		return nil, err
	}
	return begun.keys.seal(begun.data, content, newNoncePrefix(), 1<<c.chunkSizeLog2)
}

// Decrypt gives the content of a message, all of it verified. Only a message under one of the accepted keys is opened,
// by default those of the Client.
func (c *Client) Decrypt(
	ctx context.Context, message []byte, pairs map[string]string, accepted ...Key,
) ([]byte, error) {
	source := bytes.NewReader(message)
	found, err := readHeader(source)
	if err != nil {
		return nil, err
	}
	head, err := c.openHead(ctx, found, pairs, accepted, source.Len())
	if err != nil {
		return nil, err
	}
	return head.keys.open(message[len(message)-source.Len():], found.chunkSize())
}

// Rewrap moves a message to other keys, with the same body: it opens under keys, and no longer under those of before.
// Whoever could open it before may have kept its data key. accepted are the keys that it may be under now, by default
// those of the Client.
func (c *Client) Rewrap(
	ctx context.Context, message []byte, keys []Key, pairs map[string]string, accepted ...Key,
) ([]byte, error) {
	under, err := completed(c.calls, keys)
	if err != nil {
		return nil, err
	}
	source := bytes.NewReader(message)
	found, err := readHeader(source)
	if err != nil {
		return nil, err
	}
	head, err := c.openHead(ctx, found, pairs, accepted, 0)
	if err != nil {
		return nil, err
	}
	other := found.header
	if other.wrappedKeys, err = wrappedUnder(ctx, under, head.dataKey, head.pairs, c.nameKeys); err != nil {
		return nil, err
	}
	data, err := other.bytes()
	if err != nil {
		return nil, err
	}
	return append(append(data, head.keys.headerTag(data)...), message[len(message)-source.Len():]...), nil
}

// beginning is what messages of one data key begin with: header and tag, and the keys of their bodies.
type beginning struct {
	data []byte
	keys *messageKeys
}

func (c *Client) begin(ctx context.Context, pairs map[string]string, size int) (*beginning, error) {
	// What has no canonical form is refused before a data key is made.
	canonical, err := canonicalContext(pairs)
	if err != nil {
		return nil, err
	}
	if c.writing == nil {
		return c.begun(ctx, pairs, canonical)
	}
	ask := func() func(context.Context) (*beginning, error) {
		// The caller's own may change while the mesh is asked beside.
		kept := maps.Clone(pairs)
		return func(ctx context.Context) (*beginning, error) { return c.begun(ctx, kept, canonical) }
	}
	return c.writing.get(ctx, string(canonical), size, ask)
}

func (c *Client) begun(ctx context.Context, pairs map[string]string, canonical []byte) (*beginning, error) {
	dataKey, wrapped, err := newDataKey(ctx, c.keys, pairs, c.nameKeys)
	if err != nil {
		return nil, err
	}
	written := header{chunkSizeLog2: c.chunkSizeLog2, digest: sha256.Sum256(canonical), wrappedKeys: wrapped}
	if c.storeContext {
		written.context = map[string]string{}
		for name, value := range pairs {
			written.context[name] = value
		}
	}
	data, err := written.bytes()
	if err != nil {
		return nil, err
	}
	keys, err := newMessageKeys(dataKey, written.chunkSizeLog2, written.digest)
	if err != nil {
		return nil, err
	}
	return &beginning{append(data, keys.headerTag(data)...), keys}, nil
}

// opened is what a header opens to.
type opened struct {
	keys    *messageKeys
	dataKey []byte
	pairs   map[string]string
}

func (c *Client) openHead(
	ctx context.Context, found *foundHeader, given map[string]string, accepted []Key, size int,
) (*opened, error) {
	pairs, err := found.contextFor(given)
	if err != nil {
		return nil, err
	}
	if len(accepted) > 0 {
		if accepted, err = completed(c.calls, accepted); err != nil {
			return nil, err
		}
		return openUnder(ctx, found, pairs, accepted)
	}
	if c.reading == nil {
		return openUnder(ctx, found, pairs, c.keys)
	}
	open := func() func(context.Context) (*opened, error) {
		kept := maps.Clone(pairs)
		return func(ctx context.Context) (*opened, error) { return openUnder(ctx, found, kept, c.keys) }
	}
	// The header holds the context or its digest, which was compared: no other context finds this entry.
	return c.reading.get(ctx, string(found.data)+string(found.tag), size, open)
}

func openUnder(ctx context.Context, found *foundHeader, pairs map[string]string, accepted []Key) (*opened, error) {
	attempts, err := fitting(found.wrappedKeys, accepted)
	if err != nil {
		return nil, err
	}
	dataKey, err := firstAnswer(ctx, attempts, pairs)
	if err != nil {
		return nil, err
	}
	keys, err := newMessageKeys(dataKey, found.chunkSizeLog2, found.digest)
	if err != nil {
		return nil, err
	}
	if err := keys.verify(found.data, found.tag); err != nil {
		return nil, err
	}
	return &opened{keys, dataKey, pairs}, nil
}
