package encryption

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	maxCached         = 1000
	maxCachedMessages = 1_000_000
	maxCachedBytes    = 64 << 30
)

// cache keeps what was made with calls to a mesh. Concurrent misses make one call.
type cache[Value any] struct {
	maxAge  time.Duration
	now     func() time.Time
	lock    sync.Mutex
	entries map[string]*entry[Value]
}

type entry[Value any] struct {
	made     chan struct{} // closed once value or err stands
	value    Value
	err      error
	expires  time.Time
	messages int
	bytes    int
}

func newCache[Value any](maxAge time.Duration) *cache[Value] {
	return &cache[Value]{maxAge: maxAge, now: time.Now, entries: map[string]*entry[Value]{}}
}

// get gives what is at hand for a message of size bytes, or asks for it.
func (c *cache[Value]) get(ctx context.Context, name string, size int, ask func() (Value, error)) (Value, error) {
	for {
		found, mine := c.entry(name, size)
		if mine {
			found.value, found.err = ask()
			if found.err != nil {
				c.forget(name, found)
			}
			close(found.made)
			return found.value, found.err
		}
		select {
		case <-found.made:
		case <-ctx.Done():
			var none Value
			return none, ctx.Err()
		}
		// Whoever made the call may have given up; those who have not make it themselves.
		if found.err == nil || !errors.Is(found.err, context.Canceled) && !errors.Is(found.err, context.DeadlineExceeded) {
			return found.value, found.err
		}
	}
}

// entry finds what is at hand, or says that it is the caller's to make.
func (c *cache[Value]) entry(name string, size int) (*entry[Value], bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	now := c.now()
	found := c.entries[name]
	if found != nil && now.Before(found.expires) && found.messages < maxCachedMessages && found.bytes+size <= maxCachedBytes {
		found.messages++
		found.bytes += size
		return found, false
	}
	delete(c.entries, name)
	c.makeRoom(now)
	found = &entry[Value]{made: make(chan struct{}), expires: now.Add(c.maxAge), messages: 1, bytes: size}
	c.entries[name] = found
	return found, true
}

// makeRoom drops what has expired where the cache is full, or else the oldest.
func (c *cache[Value]) makeRoom(now time.Time) {
	if len(c.entries) < maxCached {
		return
	}
	oldest := ""
	for name, found := range c.entries {
		if !now.Before(found.expires) {
			delete(c.entries, name)
		} else if oldest == "" || found.expires.Before(c.entries[oldest].expires) {
			oldest = name
		}
	}
	if len(c.entries) >= maxCached {
		delete(c.entries, oldest)
	}
}

func (c *cache[Value]) forget(name string, failed *entry[Value]) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.entries[name] == failed {
		delete(c.entries, name)
	}
}

// Clear forgets every data key that is kept: from then on the mesh is asked again.
func (c *Client) Clear() {
	if c.writing != nil {
		c.writing.clear()
		c.reading.clear()
	}
}

func (c *cache[Value]) clear() {
	c.lock.Lock()
	defer c.lock.Unlock()
	clear(c.entries)
}
