package strongroom

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	rounds        = 4 // each tries every address once
	firstPause    = 100 * time.Millisecond
	longestPause  = time.Second
	defaultLimit  = 10 * time.Second
	pendingPause  = 250 * time.Millisecond
	requestIDName = "request_id"
	// How long a service asks to wait before a call is made again; negative of one that it may have begun.
	pushbackTrailer = "grpc-retry-pushback-ms"
)

// What was asked was done, or may have been: the same request with the same id answers what it made.
var pendingReasons = map[string]bool{"AUDIT_PENDING": true, "CHANGE_UNDECIDED": true}

var errNobody = status.Error(codes.Unavailable, "nobody answers there, or not with a certificate that is trusted")

// Methods whose repetition changes nothing more. A change is repeated with its request id, which it is given where it has
// none, or where nothing was sent.
var safePrefixes = []string{
	"Get", "List", "Lookup", "Simulate", "Validate", "Encrypt", "Decrypt", "ReEncrypt", "Generate", "Export", "Asymmetric",
	"Sign", "Verify", "Derive", "Encapsulate", "Decapsulate", "BatchEncrypt", "BatchDecrypt", "BatchSign", "BatchGenerate",
	"BatchGet", "CreateSession", "AssumeRole",
}

// endpoint is one service at one address or at several. It is what generated stubs take for a connection, so that every
// call of every stub goes one way: trace, token, deadline, checksums, retries, errors.
type endpoint struct {
	service   string
	channels  []*channel
	preferred atomic.Int64
	tokens    tokenSource
	timeout   time.Duration
}

// Invoke makes a unary call. Calls without a deadline get the client's.
func (e *endpoint) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	ctx, traceID := traced(ctx)
	request, answer := proto.Clone(args.(proto.Message)), reply.(proto.Message)
	addRequestID(request)
	addChecksums(request)
	one := &call{endpoint: e, method: method, request: request, answer: answer, options: options, traceID: traceID}
	err := one.authorized(ctx)
	if refusal := pending(err, request); refusal != nil {
		err = one.untilDecided(ctx, refusal)
	}
	return err
}

// NewStream begins a stream, which stays where it began and has no deadline but the caller's.
func (e *endpoint) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, traceID := traced(ctx)
	ctx, _, err := e.withToken(ctx)
	if err != nil {
		return nil, err
	}
	chosen := e.channels[e.preferred.Load()]
	connection, err := chosen.acquire()
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, connection.calls.Done)
	options = append(options, grpc.OnFinish(func(error) {
		if release() {
			connection.calls.Done()
		}
	}))
	stream, err := connection.NewStream(ctx, description, method, options...)
	if err != nil {
		return nil, fromStatus(ctx, err, e.peer(), traceID, nil)
	}
	return &errorStream{stream, ctx, e.peer(), traceID}, nil
}

func (e *endpoint) peer() string {
	addresses := make([]string, 0, len(e.channels))
	for _, one := range e.channels {
		addresses = append(addresses, described(one.address, http.ProxyFromEnvironment))
	}
	return e.service + " at " + strings.Join(addresses, ", ")
}

func (e *endpoint) withToken(ctx context.Context) (context.Context, string, error) {
	if len(e.channels) == 0 {
		return nil, "", &Error{
			Reason: "ENDPOINT_UNKNOWN", Code: codes.FailedPrecondition, Field: e.service,
			Message: "the address of " + e.service + " is not known",
		}
	}
	if e.tokens == nil {
		return ctx, "", nil
	}
	token, err := e.tokens.current(ctx)
	if err != nil {
		return nil, "", err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), token, nil
}

// call is one call, however often it is sent.
type call struct {
	*endpoint
	method          string
	request, answer proto.Message
	options         []grpc.CallOption
	traceID         string
}

// authorized makes the call with a token, and once again with another where the service did not accept that.
func (c *call) authorized(ctx context.Context) error {
	with, token, err := c.withToken(ctx)
	if err != nil {
		return err
	}
	err = c.answered(with)
	reason := ReasonOf(err)
	if c.tokens == nil || (reason != "TOKEN_EXPIRED" && reason != "TOKEN_INVALID") || !c.tokens.renew(token) {
		return err
	}
	if with, _, err = c.withToken(ctx); err != nil {
		return err
	}
	return c.answered(with)
}

// answered makes the call at one address after the other, in rounds with growing pauses, until one answers.
func (c *call) answered(ctx context.Context) error {
	var failure error
	for round := range rounds {
		first := int(c.preferred.Load())
		for step := range c.channels {
			index := (first + step) % len(c.channels)
			err, repeatable := c.at(ctx, c.channels[index])
			if err == nil {
				return nil
			}
			failure = err
			var refusal *Error
			if errors.As(err, &refusal) && refusal.Code != codes.Unavailable && refusal.Code != codes.DeadlineExceeded {
				return err
			}
			c.preferred.CompareAndSwap(int64(index), int64((index+1)%len(c.channels)))
			if !repeatable || ctx.Err() != nil {
				return err
			}
		}
		if !pause(ctx, round) {
			return failure
		}
	}
	return failure
}

// at makes the call at one address, and says whether it may be made again.
func (c *call) at(ctx context.Context, where *channel) (failure error, repeatable bool) {
	connection, err := where.acquire()
	if err != nil {
		return err, false
	}
	defer connection.calls.Done()
	if err := connection.ready(ctx); err != nil {
		return fromStatus(ctx, err, c.peer(), c.traceID, nil), true
	}
	var trailer metadata.MD
	options := append([]grpc.CallOption{grpc.Trailer(&trailer)}, c.options...)
	if err := connection.Invoke(ctx, c.method, c.request, c.answer, options...); err != nil {
		refusal := fromStatus(ctx, err, c.peer(), c.traceID, trailer)
		if pendingReasons[refusal.Reason] {
			return refusal, false // untilDecided goes on
		}
		// A service that says UNAVAILABLE with another reason has done nothing, of what it had not begun.
		undone := refusal.Reason != Unreachable && !mayHaveBegun(trailer)
		return refusal, refusal.Code == codes.Unavailable && (undone || c.isSafe())
	}
	if field := corrupted(c.answer); field != "" {
		return &Error{
			Reason: AnswerCorrupted, Code: codes.DataLoss, Field: field, TraceID: c.traceID,
			Message: c.peer() + ": " + field + " was altered on the way, by its checksum",
		}, false
	}
	return nil, false
}

// mayHaveBegun says whether a service that refuses a call may have begun it.
func mayHaveBegun(trailer metadata.MD) bool {
	for _, pushback := range trailer.Get(pushbackTrailer) {
		// gRPC takes for "never again" also what it cannot read.
		if _, err := strconv.ParseUint(pushback, 10, 64); err != nil {
			return true
		}
	}
	return false
}

func (c *call) isSafe() bool {
	name := c.method[strings.LastIndexByte(c.method, '/')+1:]
	for _, prefix := range safePrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return requestID(c.request) != ""
}

func requestID(request proto.Message) string {
	if with, there := request.(interface{ GetRequestId() string }); there {
		return with.GetRequestId()
	}
	return ""
}

// addRequestID gives a request an id where it can have one and has none, so that it can be made again.
func addRequestID(request proto.Message) {
	message := request.ProtoReflect()
	field := message.Descriptor().Fields().ByName(requestIDName)
	if field != nil && message.Get(field).String() == "" {
		message.Set(field, protoreflect.ValueOfString(newRequestID()))
	}
}

// newRequestID gives a random UUID (RFC 9562, version 4).
func newRequestID() string {
	id := []byte(randomHex(16))
	id[12], id[16] = '4', '8'
	text := string(id)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

// pending gives the refusal of a change that was made while the audit log was away, or may have been made when the
// database was lost, and can be asked for again.
func pending(err error, request proto.Message) *Error {
	var refusal *Error
	if errors.As(err, &refusal) && pendingReasons[refusal.Reason] && requestID(request) != "" {
		return refusal
	}
	return nil
}

// untilDecided asks for a change again, by its request id, until it is known what stands or the time is over.
func (c *call) untilDecided(ctx context.Context, refusal *Error) error {
	for sleep(ctx, pendingPause) {
		err := c.authorized(ctx)
		var again *Error
		if !errors.As(err, &again) {
			return err
		}
		switch again.Code {
		case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		default:
			return err
		}
	}
	return refusal
}

// pause waits for a random part of a time that doubles with each round; false where no time is left for it.
func pause(ctx context.Context, round int) bool {
	return round < rounds-1 && sleep(ctx, rand.N(min(longestPause, firstPause<<round)))
}

func sleep(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errorStream gives Errors in place of gRPC's.
type errorStream struct {
	grpc.ClientStream
	ctx           context.Context
	peer, traceID string
}

// RecvMsg takes the next message.
func (s *errorStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if _, failed := status.FromError(err); err == nil || !failed {
		return err // io.EOF is no status
	}
	return fromStatus(s.ctx, err, s.peer, s.traceID, s.Trailer())
}
