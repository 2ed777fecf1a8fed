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

	// What is in use is made anew so long before its end, or for half of its time, beside messages that go on.
	refreshAhead = 30 * time.Second
	// While a mesh is away, what was made is used for so much longer unless the caller says another time, and another one
	// is asked for so often.
	defaultMaxStale = 2 * time.Minute
	retryAfter      = time.Second
)

// cache keeps what was made with calls to a mesh. Concurrent misses make one call.
type cache[Value any] struct {
	maxAge   time.Duration
	maxStale time.Duration
	now      func() time.Time
	lock     sync.Mutex
	entries  map[string]*entry[Value]
}

type entry[Value any] struct {
	made       chan struct{} // closed once value or err stands
	value      Value
	err        error
	refreshAt  time.Time
	expires    time.Time
	staleUntil time.Time
	messages   int
	bytes      int
	refreshing bool
}

// asking prepares a call, which may be made beside what the caller goes on with.
type asking[Value any] func() func(ctx context.Context) (Value, error)

func newCache[Value any](maxAge, maxStale time.Duration) *cache[Value] {
	return &cache[Value]{maxAge: maxAge, maxStale: maxStale, now: time.Now, entries: map[string]*entry[Value]{}}
}

func (c *cache[Value]) newEntry() *entry[Value] {
	expires := c.now().Add(c.maxAge)
	return &entry[Value]{
		made: make(chan struct{}), refreshAt: expires.Add(-min(refreshAhead, c.maxAge/2)), expires: expires,
		staleUntil: expires.Add(c.maxStale),
	}
}

// take uses an entry for a message of size bytes, unless it may serve no other.
func (e *entry[Value]) take(size int) bool {
	if e.messages >= maxCachedMessages || e.bytes+size > maxCachedBytes {
		return false
	}
	e.messages++
	e.bytes += size
	return true
}

// isMade tells what is at hand from what is asked for.
func (e *entry[Value]) isMade() bool {
	select {
	case <-e.made:
		return e.err == nil
	default:
		return false
	}
}

// prolong uses an entry beyond its age, and has another one asked for now and then.
func (e *entry[Value]) prolong(now time.Time) {
	e.refreshAt, e.expires = now.Add(retryAfter), e.staleUntil
}

// get gives what is at hand for a message of size bytes, or asks for it.
func (c *cache[Value]) get(ctx context.Context, name string, size int, ask asking[Value]) (Value, error) {
	for {
		found, before, mine := c.entry(ctx, name, size, ask)
		if mine {
			found.value, found.err = ask()(ctx)
			if found.err != nil {
				c.failed(name, found, before)
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
		if found.err == nil || !isGivenUp(found.err) {
			return found.value, found.err
		}
	}
}

func isGivenUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// entry finds what is at hand, or says that it is the caller's to make, and what it takes the place of.
func (c *cache[Value]) entry(ctx context.Context, name string, size int, ask asking[Value]) (found, before *entry[Value], mine bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	now := c.now()
	found = c.entries[name]
	if found != nil && now.Before(found.expires) && found.take(size) {
		if !now.Before(found.refreshAt) && !found.refreshing && found.isMade() {
			found.refreshing = true
			// The message that comes upon it does not wait, and may be done before.
			go c.refresh(context.WithoutCancel(ctx), name, found, ask())
		}
		return found, nil, false
	}
	if found != nil && found.isMade() {
		before = found
	}
	delete(c.entries, name)
	c.makeRoom(now)
	found = c.newEntry()
	found.take(size)
	c.entries[name] = found
	return found, before, true
}

// refresh makes an entry anew. While the mesh is away it is used on; what the mesh refuses ends it.
func (c *cache[Value]) refresh(ctx context.Context, name string, old *entry[Value], ask func(context.Context) (Value, error)) {
	made := c.newEntry()
	made.value, made.err = ask(ctx)
	close(made.made)
	c.lock.Lock()
	defer c.lock.Unlock()
	old.refreshing = false
	switch {
	case c.entries[name] != old: // forgotten, or replaced
	case made.err == nil:
		c.entries[name] = made
	case isAway(made.err):
		old.prolong(c.now())
	default:
		delete(c.entries, name)
	}
}

// failed puts what was there before in the place of what could not be made, while the mesh is away and as long as that
// may be.
func (c *cache[Value]) failed(name string, failed, before *entry[Value]) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.entries[name] == failed {
		delete(c.entries, name)
	}
	now := c.now()
	switch {
	case before == nil:
		return
	case isAway(failed.err) && now.Before(before.staleUntil) && before.take(failed.bytes):
		before.messages += failed.messages - 1
		before.prolong(now)
		failed.value, failed.err = before.value, nil
	case !isGivenUp(failed.err):
		return
	}
	if _, known := c.entries[name]; !known {
		c.entries[name] = before
	}
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
