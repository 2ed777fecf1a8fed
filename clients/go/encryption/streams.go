package encryption

import (
	"context"
	"errors"
	"io"
	"sync"
)

var errClosed = errors.New("strongroom: write to a message that was closed or given up")

// Writer encrypts what is written to it. Close writes the end of the message; without it, every reader refuses the
// message as cut off. So close it only when all content was written, and not in a deferred call that runs on failure too.
type Writer struct {
	to        io.Writer
	cipher    *chunkCipher
	head      []byte
	content   []byte // the chunk that is kept back: only what follows tells that it is not the last
	sealed    []byte
	chunkSize int
	number    uint64
	err       error
}

// NewWriter begins a message in to, in constant memory.
func (c *Client) NewWriter(ctx context.Context, to io.Writer, pairs map[string]string) (*Writer, error) {
	begun, err := c.begin(ctx, pairs, 0)
	if err != nil {
		return nil, err
	}
	prefix := newNoncePrefix()
	cipher, err := begun.keys.cipher(prefix)
	if err != nil {
		return nil, err
	}
	head := append(append([]byte(nil), begun.data...), prefix...)
	return &Writer{to: to, cipher: cipher, head: head, chunkSize: 1 << c.chunkSizeLog2}, nil
}

// Write encrypts content.
func (w *Writer) Write(content []byte) (int, error) {
	written := 0
	for written < len(content) && w.err == nil {
		if len(w.content) == w.chunkSize {
			w.flush(false)
			continue
		}
		count := min(w.chunkSize-len(w.content), len(content)-written)
		w.content = append(w.content, content[written:written+count]...)
		written += count
	}
	return written, w.err
}

// Close writes the end of the message. The writer below stays open.
func (w *Writer) Close() error {
	if w.err == nil {
		w.flush(true)
	}
	if w.err == nil {
		w.err = errClosed
		return nil
	}
	return w.err
}

// Abort leaves the message without an end, so that no reader takes it for whole; a later Close does nothing.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = errClosed
	}
}

func (w *Writer) flush(last bool) {
	w.sealed, w.err = w.cipher.seal(append(w.sealed[:0], w.head...), w.number, last, w.content)
	if w.err == nil {
		_, w.err = w.to.Write(w.sealed)
	}
	w.head, w.content = nil, w.content[:0]
	w.number++
}

// Reader is the content of a message that comes as a stream. Every byte that it gives was verified; that nothing was
// cut off is known when it gives io.EOF, so keep what was read aside until then.
type Reader struct {
	from   io.Reader
	cipher *chunkCipher
	sealed []byte // one chunk, and the first byte of the next
	held   int
	chunk  []byte
	ready  []byte
	number uint64
	err    error
}

// NewReader opens the message in from, in constant memory.
func (c *Client) NewReader(
	ctx context.Context, from io.Reader, pairs map[string]string, accepted ...Key,
) (*Reader, error) {
	found, err := readHeader(from)
	if err != nil {
		return nil, err
	}
	head, err := c.openHead(ctx, found, pairs, accepted, 0)
	if err != nil {
		return nil, err
	}
	prefix, err := readUpTo(from, make([]byte, noncePrefixBytes))
	if err != nil {
		return nil, err
	}
	if len(prefix) < noncePrefixBytes {
		return nil, altered()
	}
	cipher, err := head.keys.cipher(prefix)
	if err != nil {
		return nil, err
	}
	return &Reader{from: from, cipher: cipher, sealed: make([]byte, found.chunkSize()+tagBytes+1)}, nil
}

// Read gives what was verified.
func (r *Reader) Read(content []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if len(content) == 0 {
			return 0, nil
		}
		r.next()
	}
	count := copy(content, r.ready)
	r.ready = r.ready[count:]
	return count, nil
}

func (r *Reader) next() {
	got, err := readUpTo(r.from, r.sealed[r.held:])
	if err != nil {
		r.err = err
		return
	}
	size, last := r.held+len(got), r.held+len(got) < len(r.sealed)
	if last && (size < tagBytes || (size == tagBytes && r.number > 0)) {
		r.err = altered()
		return
	}
	if !last {
		size--
	}
	chunk, err := r.cipher.open(r.chunk[:0], r.number, last, r.sealed[:size])
	if err != nil {
		r.err = err
		return
	}
	r.chunk, r.ready = chunk, chunk
	r.number++
	r.sealed[0], r.held = r.sealed[len(r.sealed)-1], 1
	if last {
		r.err = io.EOF
	}
}

// ReaderAt is the content of a message that can be read anywhere, in constant memory. That the message is whole was
// verified when it was opened, by its last chunk; each chunk is when it is read. It may be shared between goroutines;
// `io.NewSectionReader(r, 0, r.Size())` reads and seeks in it.
type ReaderAt struct {
	from   io.ReaderAt
	start  int64
	layout layout
	lock   sync.Mutex
	cipher *chunkCipher
	sealed []byte
	chunk  []byte // the one that was read last, for reads that go on in it
	number uint64
	there  bool
}

// NewReaderAt opens the message of size bytes in from.
func (c *Client) NewReaderAt(
	ctx context.Context, from io.ReaderAt, size int64, pairs map[string]string, accepted ...Key,
) (*ReaderAt, error) {
	source := io.NewSectionReader(from, 0, size)
	found, err := readHeader(source)
	if err != nil {
		return nil, err
	}
	head, err := c.openHead(ctx, found, pairs, accepted, 0)
	if err != nil {
		return nil, err
	}
	prefix, err := readUpTo(source, make([]byte, noncePrefixBytes))
	if err != nil {
		return nil, err
	}
	start := int64(len(found.data)+len(found.tag)) + noncePrefixBytes
	if size-start < tagBytes {
		return nil, altered()
	}
	where, err := layoutOf(uint64(size-start), uint64(found.chunkSize()))
	if err != nil {
		return nil, err
	}
	cipher, err := head.keys.cipher(prefix)
	if err != nil {
		return nil, err
	}
	reader := &ReaderAt{
		from: from, start: start, layout: where, cipher: cipher, sealed: make([]byte, found.chunkSize()+tagBytes),
	}
	if err := reader.load(where.chunks - 1); err != nil {
		return nil, err
	}
	return reader, nil
}

// Size is how many bytes the content has, verified.
func (r *ReaderAt) Size() int64 { return int64(r.layout.contentBytes) }

// ReadAt reads from offset on.
func (r *ReaderAt) ReadAt(content []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("strongroom: there is no such place in the content")
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	done := 0
	for done < len(content) && offset+int64(done) < r.Size() {
		at := uint64(offset) + uint64(done)
		if err := r.load(at / r.layout.chunkSize); err != nil {
			return done, err
		}
		done += copy(content[done:], r.chunk[at%r.layout.chunkSize:])
	}
	if done < len(content) {
		return done, io.EOF
	}
	return done, nil
}

func (r *ReaderAt) load(number uint64) error {
	if r.there && r.number == number {
		return nil
	}
	r.there = false
	start, size := r.layout.sealedRange(number)
	sealed := r.sealed[:size]
	if count, err := r.from.ReadAt(sealed, r.start+int64(start)); count < len(sealed) {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return altered()
	}
	chunk, err := r.cipher.open(r.chunk[:0], number, number == r.layout.chunks-1, sealed)
	if err != nil {
		return err
	}
	r.chunk, r.number, r.there = chunk, number, true
	return nil
}
