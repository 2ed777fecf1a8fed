package strongroom

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	domain      = "strongroom"
	eventHeader = "strongroom-event-id"
)

// Reasons of the client itself, where no service gave one.
const (
	Unreachable      = "UNREACHABLE"
	DeadlineExceeded = "DEADLINE_EXCEEDED"
	Cancelled        = "CANCELLED"
	AnswerCorrupted  = "ANSWER_CORRUPTED"
)

// Error is a call that was refused or failed, or something that the client itself refuses.
type Error struct {
	// Reason is what programs switch on (`KEY_DISABLED`, `PERMISSION_DENIED`); it is stable.
	Reason string
	// Code is the gRPC status code; for what the client itself refuses, the one that a service would use.
	Code codes.Code
	// Message is a sentence for a person, and never holds a secret.
	Message string
	// Field names the request's field that is at fault, if one is.
	Field string
	// Metadata says more, as the reason defines.
	Metadata map[string]string
	// EventID is the audit event of the call, and TraceID its trace; both are empty where there is none.
	EventID, TraceID string
	// RetryAfter is how long the service asks to wait; 0 where it does not say.
	RetryAfter time.Duration

	cause error
}

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Unwrap gives the context's own error where the caller's context ended the call.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus lets `status.Code` of gRPC read an Error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// WithAdvice is a copy whose message goes on with what to do.
func (e *Error) WithAdvice(advice string) *Error {
	advised := *e
	advised.Message += "; " + advice
	return &advised
}

// ReasonOf gives the stable reason of an error, and nothing where it has none.
func ReasonOf(err error) string {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

func invalid(reason, field, message string) *Error {
	return &Error{Reason: reason, Code: codes.InvalidArgument, Field: field, Message: message}
}

// fromStatus says what a failed call means; peer is which service at which address.
func fromStatus(ctx context.Context, err error, peer, traceID string, trailer metadata.MD) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	found := status.Convert(err)
	refusal := &Error{Code: found.Code(), Message: found.Message(), TraceID: traceID}
	if ids := trailer.Get(eventHeader); len(ids) > 0 {
		refusal.EventID = ids[0]
	}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				refusal.inform(detail)
			}
		case *errdetails.RetryInfo:
			refusal.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if refusal.Reason == "" {
		refusal.withoutReason(ctx, peer)
	}
	return refusal
}

func (e *Error) inform(info *errdetails.ErrorInfo) {
	e.Reason, e.Metadata = info.GetReason(), map[string]string{}
	for name, value := range info.GetMetadata() {
		if name == "field" {
			e.Field = value
		} else {
			e.Metadata[name] = value
		}
	}
}

func (e *Error) withoutReason(ctx context.Context, peer string) {
	e.cause = ctx.Err()
	switch {
	case errors.Is(e.cause, context.Canceled):
		e.Code, e.Reason, e.Message = codes.Canceled, Cancelled, "the caller gave the call up"
	case e.cause != nil || e.Code == codes.DeadlineExceeded:
		e.Code, e.Reason, e.Message = codes.DeadlineExceeded, DeadlineExceeded, peer+" did not answer in time"
	case e.Code == codes.Unavailable || e.Code == codes.Canceled:
		// No service says CANCELED: gRPC does, of a call that it had not handed over when the server stopped.
		e.Code, e.Reason = codes.Unavailable, Unreachable
		e.Message = fmt.Sprintf("%s cannot be reached: %s", peer, e.Message)
	default:
		e.Reason, e.Message = screaming(e.Code), peer+": "+e.Message
	}
}

// screaming gives a code's name as other languages and the reasons write it.
func screaming(code codes.Code) string {
	names := map[codes.Code]string{
		codes.InvalidArgument: "INVALID_ARGUMENT", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
		codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
		codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
		codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.DataLoss: "DATA_LOSS",
		codes.Unauthenticated: "UNAUTHENTICATED",
	}
	if name, known := names[code]; known {
		return name
	}
	return "UNKNOWN"
}
