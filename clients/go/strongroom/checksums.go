package strongroom

import (
	"hash/crc32"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const checksumSuffix = "_crc32c"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// addChecksums sets every checksum of a request, those of its items too. A field `x_crc32c` holds the CRC32C of `x`
// beside it, which is a field of bytes, or a oneof of such.
func addChecksums(request proto.Message) {
	eachChecksum(request.ProtoReflect(), func(message protoreflect.Message, field protoreflect.FieldDescriptor, data []byte, there bool) bool {
		if there {
			message.Set(field, protoreflect.ValueOfUint32(crc32.Checksum(data, castagnoli)))
		}
		return true
	})
}

// corrupted names the first field of an answer that is not what its checksum says; it is empty when each is, or has none.
func corrupted(response proto.Message) string {
	found := ""
	eachChecksum(response.ProtoReflect(), func(message protoreflect.Message, field protoreflect.FieldDescriptor, data []byte, _ bool) bool {
		given := !field.HasPresence() || message.Has(field)
		if given && uint32(message.Get(field).Uint()) != crc32.Checksum(data, castagnoli) {
			found = strings.TrimSuffix(string(field.Name()), checksumSuffix)
		}
		return found == ""
	})
	return found
}

type visit func(protoreflect.Message, protoreflect.FieldDescriptor, []byte, bool) bool

// eachChecksum visits the checksums of a message and of its parts until one visit answers false.
func eachChecksum(message protoreflect.Message, visit visit) bool {
	descriptors := message.Descriptor().Fields()
	for index := range descriptors.Len() {
		field := descriptors.Get(index)
		switch {
		case field.Kind() == protoreflect.Uint32Kind && strings.HasSuffix(string(field.Name()), checksumSuffix):
			if data, there, known := subject(message, field); known && !visit(message, field, data, there) {
				return false
			}
		case field.Kind() != protoreflect.MessageKind || field.IsMap() || !message.Has(field):
		case field.IsList():
			items := message.Get(field).List()
			for at := range items.Len() {
				if !eachChecksum(items.Get(at).Message(), visit) {
					return false
				}
			}
		default:
			if !eachChecksum(message.Get(field).Message(), visit) {
				return false
			}
		}
	}
	return true
}

// subject is what a checksum is of, and whether that is there.
func subject(message protoreflect.Message, checksum protoreflect.FieldDescriptor) (data []byte, there, known bool) {
	name := protoreflect.Name(strings.TrimSuffix(string(checksum.Name()), checksumSuffix))
	if field := message.Descriptor().Fields().ByName(name); field != nil && field.Kind() == protoreflect.BytesKind {
		return message.Get(field).Bytes(), !field.HasPresence() || message.Has(field), true
	}
	if oneof := message.Descriptor().Oneofs().ByName(name); oneof != nil {
		chosen := message.WhichOneof(oneof)
		if chosen == nil || chosen.Kind() != protoreflect.BytesKind {
			return nil, false, true
		}
		return message.Get(chosen).Bytes(), true, true
	}
	return nil, false, false
}
