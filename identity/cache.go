package identity

import "sync"

// cacheSize is how many things a cache remembers; each takes 10 KB or less.
const cacheSize = 64

// cache remembers what is costly to make, by a hash of what it is made from. When it is full a random entry makes
// room. The zero cache is ready for use, also concurrently.
type cache[V any] struct {
	mu sync.Mutex
	m  map[[32]byte]V
}

// get returns what is remembered under key, or makes it. Failures are not remembered.
func (c *cache[V]) get(key [32]byte, build func() (V, error)) (V, error) {
	c.mu.Lock()
	v, ok := c.m[key]
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := build()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[[32]byte]V, cacheSize)
	}
	if len(c.m) >= cacheSize {
		for k := range c.m {
			delete(c.m, k)
			break
		}
	}
	c.m[key] = v
	return v, nil
}
