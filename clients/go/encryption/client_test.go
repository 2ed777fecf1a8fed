package encryption

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/strongroom/strongroom/clients/go/strongroom"
	cryptov1 "github.com/strongroom/strongroom/clients/go/strongroom/crypto/v1"
)

// wrapping stands for a mesh: it wraps data keys by writing their key's name before them.
type wrapping struct {
	lock    sync.Mutex
	calls   int
	refusal error
}

func (w *wrapping) KeyName(name string) (string, error) { return "accounts/main/keys/" + name, nil }

func (w *wrapping) count() error {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.calls++
	return w.refusal
}

func (w *wrapping) refuse(reason string, code codes.Code) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.refusal = &strongroom.Error{Reason: reason, Code: code}
}

func (w *wrapping) GenerateDataKey(_ context.Context, key string, _ map[string]string) (*cryptov1.GenerateDataKeyResponse, error) {
	if err := w.count(); err != nil {
		return nil, err
	}
	time.Sleep(10 * time.Millisecond)
	dataKey := make([]byte, 32)
	rand.Read(dataKey)
	return &cryptov1.GenerateDataKeyResponse{Plaintext: dataKey, Ciphertext: append([]byte(key), dataKey...), Key: key}, nil
}

func (w *wrapping) Encrypt(_ context.Context, key string, dataKey []byte, _ map[string]string) (*cryptov1.EncryptResponse, error) {
	if err := w.count(); err != nil {
		return nil, err
	}
	return &cryptov1.EncryptResponse{Ciphertext: append([]byte(key), dataKey...), Key: key}, nil
}

func (w *wrapping) Decrypt(_ context.Context, key string, sealed []byte, _ map[string]string) (*cryptov1.DecryptResponse, error) {
	if err := w.count(); err != nil {
		return nil, err
	}
	return &cryptov1.DecryptResponse{Plaintext: sealed[len(sealed)-32:], Key: string(sealed[:len(sealed)-32])}, nil
}

func made(t *testing.T, calls Calls, names []string, options ...Option) *Client {
	t.Helper()
	client, err := New(calls, Named(names...), options...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestContentsOfEverySizeAroundAChunkComeBack(t *testing.T) {
	ctx, client := t.Context(), made(t, &wrapping{}, []string{"a", "b"}, ChunkSizeLog2(6), StoreContext())
	for size := range 200 {
		content := make([]byte, size)
		rand.Read(content)
		var streamed bytes.Buffer
		writer, err := client.NewWriter(ctx, &streamed, map[string]string{"tenant": "a"})
		if err != nil {
			t.Fatal(err)
		}
		for at := range content {
			writer.Write(content[at : at+1])
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		whole, err := client.Encrypt(ctx, content, map[string]string{"tenant": "a"})
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range [][]byte{streamed.Bytes(), whole} {
			for way, read := range reads {
				if opened, err := read(client, message, nil); err != nil || !bytes.Equal(opened, content) {
					t.Fatal(size, way, err)
				}
			}
		}
	}
}

func TestAMessageThatWasGivenUpIsRefused(t *testing.T) {
	client := made(t, &wrapping{}, []string{"a"})
	var message bytes.Buffer
	writer, _ := client.NewWriter(t.Context(), &message, nil)
	writer.Write(make([]byte, 200_000))
	writer.Abort()
	writer.Close()
	for way, read := range reads {
		if _, err := read(client, message.Bytes(), nil); strongroom.ReasonOf(err) != Altered {
			t.Error(way, err)
		}
	}
}

func TestACacheMakesOneCallForConcurrentMessages(t *testing.T) {
	calls := &wrapping{}
	client := made(t, calls, []string{"a"}, WithCache(time.Minute))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			message, err := client.Encrypt(context.Background(), []byte("content"), nil)
			if err != nil {
				t.Error(err)
			}
			client.Decrypt(context.Background(), message, nil)
		})
	}
	all.Wait()
	if calls.calls != 2 {
		t.Error(calls.calls)
	}
	client.Clear()
	client.Encrypt(t.Context(), nil, nil)
	if calls.calls != 3 {
		t.Error(calls.calls)
	}
}

// age is how old the data key of dueForRefresh may become.
const age = 5 * time.Minute

// dueForRefresh gives a client, in a bubble of synctest, whose data key comes to its end soon.
func dueForRefresh(t *testing.T) (*wrapping, func() string) {
	calls := &wrapping{}
	client := made(t, calls, []string{"a"}, WithCache(age))
	encrypt := func() string {
		_, err := client.Encrypt(t.Context(), nil, nil)
		return strongroom.ReasonOf(err)
	}
	encrypt()
	time.Sleep(age - refreshAhead)
	return calls, encrypt
}

func TestADataKeyInUseIsReplacedAheadOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, encrypt := dueForRefresh(t)
		for range 3 {
			began := time.Now()
			if encrypt(); time.Since(began) != 0 {
				t.Error("a message waited")
			}
		}
		time.Sleep(refreshAhead + time.Second)
		if encrypt(); calls.calls != 2 {
			t.Error(calls.calls)
		}
	})
}

func TestWhileTheMeshIsAwayADataKeyIsUsedUpToItsLastLimit(t *testing.T) {
	for _, ahead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			calls, encrypt := dueForRefresh(t)
			calls.refuse("UNREACHABLE", codes.Unavailable)
			if ahead {
				encrypt()
				synctest.Wait()
			}
			time.Sleep(refreshAhead + defaultMaxStale - time.Second)
			if reason := encrypt(); reason != "" {
				t.Error(reason)
			}
			synctest.Wait()
			time.Sleep(time.Second)
			if reason := encrypt(); reason != "UNREACHABLE" {
				t.Error(reason)
			}
		})
	}
}

func TestWhatTheMeshRefusesIsNeverBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, encrypt := dueForRefresh(t)
		calls.refuse("KEY_DISABLED", codes.FailedPrecondition)
		encrypt()
		synctest.Wait()
		if reason := encrypt(); reason != "KEY_DISABLED" {
			t.Error(reason)
		}
	})
}

func TestARewrappedMessageOpensUnderItsNewKeyAlone(t *testing.T) {
	client := made(t, &wrapping{}, []string{"a"})
	message, _ := client.Encrypt(t.Context(), []byte("content"), nil)
	moved, err := client.Rewrap(t.Context(), message, Named("b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := client.Decrypt(t.Context(), moved, nil, Named("b")...); err != nil || string(content) != "content" {
		t.Error(err)
	}
	if _, err := client.Decrypt(t.Context(), moved, nil); strongroom.ReasonOf(err) != KeyNotAccepted {
		t.Error(err)
	}
}

func TestAKeyWithoutANameIsNotEveryKey(t *testing.T) {
	if _, err := New(&wrapping{}, Named("")); strongroom.ReasonOf(err) != "FIELD_REQUIRED" {
		t.Error(err)
	}
}

func TestAHostileHeaderAllocatesLittle(t *testing.T) {
	client := made(t, &wrapping{}, []string{"a"})
	hostile := append([]byte(magic), version, maxChunkSizeLog2, 1, 16, 0xff, 0xff)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		client.NewReader(context.Background(), io.MultiReader(bytes.NewReader(hostile), zeros{}), nil)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / 10; each > 1<<18 {
		t.Errorf("%d bytes for a header", each)
	}
}

type zeros struct{}

func (zeros) Read(buffer []byte) (int, error) { clear(buffer); return len(buffer), nil }
