package encryption

import (
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/strongroom/strongroom/clients/go/strongroom"
)

// Why a message is refused. Every language has the same reasons; docs/formats.md says which check gives which.
const (
	NotRecognized    = "MESSAGE_NOT_RECOGNIZED"
	VersionUnknown   = "MESSAGE_VERSION_UNKNOWN"
	Altered          = "MESSAGE_ALTERED"
	ChunkSizeInvalid = "MESSAGE_CHUNK_SIZE_INVALID"
	TooLarge         = "MESSAGE_TOO_LARGE"
	ContextMismatch  = "CONTEXT_MISMATCH"
	KeyNotAccepted   = "KEY_NOT_ACCEPTED"
	KeyMismatch      = "KEY_MISMATCH"
)

func refused(reason string, code codes.Code, field, message string) *strongroom.Error {
	return &strongroom.Error{Reason: reason, Code: code, Field: field, Message: message}
}

func notRecognized() error {
	return refused(NotRecognized, codes.InvalidArgument, "", "this is no message that Strongroom's encryption SDK wrote")
}

func versionUnknown(found byte) error {
	advice := "use a newer one"
	if found < version {
		advice = "`strongroom file decrypt` reads files of version 1"
	}
	text := fmt.Sprintf("the message is of format version %d; this reader knows version %d: %s", found, version, advice)
	return refused(VersionUnknown, codes.InvalidArgument, "", text)
}

// altered is what every message gets that fails verification: it does not say where or how.
func altered() error {
	return refused(Altered, codes.DataLoss, "", "the message was altered or cut off since it was encrypted")
}

func chunkSizeInvalid(found byte) error {
	text := fmt.Sprintf("the message claims chunks of 2^%d bytes; 2^%d to 2^%d are allowed", found, minChunkSizeLog2, maxChunkSizeLog2)
	return refused(ChunkSizeInvalid, codes.InvalidArgument, "", text)
}

func tooLarge() error {
	return refused(TooLarge, codes.InvalidArgument, "",
		"a message has at most 2^32 - 1 chunks: choose larger chunks, or divide the content")
}

func contextMismatch() error {
	return refused(ContextMismatch, codes.InvalidArgument, "context",
		"the message was encrypted with another encryption context: give exactly the pairs that the writer gave")
}

func keyNotAccepted(hints string) error {
	if hints == "" {
		hints = "keys that it does not name"
	}
	return refused(KeyNotAccepted, codes.PermissionDenied, "keys",
		"the message is under none of the keys that are accepted, but under "+hints)
}

func keyMismatch() error {
	return refused(KeyMismatch, codes.InvalidArgument, "",
		"the message names another key than its data key is under")
}

func fieldInvalid(field, message string) error {
	return refused("FIELD_INVALID", codes.InvalidArgument, field, message)
}
