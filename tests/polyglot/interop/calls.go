// Makes calls with grpc-go. The package beside it says what it reads and writes.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const longest = 64 << 20

type pair [2]string

type wanted struct {
	Path     string
	Message  []byte
	Metadata []pair
	Timeout  int
	Cancel   int
	Compress bool
	Stream   bool
	Take     int
	Times    int
	Seconds  int
}

type outcome struct {
	Code         uint32   `json:"code"`
	Message      string   `json:"message"`
	Answers      [][]byte `json:"answers"`
	Trailing     []pair   `json:"trailing"`
	Details      []byte   `json:"details"`
	Milliseconds float64  `json:"milliseconds"`
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}

func main() {
	var asked struct {
		Address string
		Trust   string
		Calls   []wanted
	}
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	trust, err := credentials.NewClientTLSFromFile(asked.Trust, "")
	must(err)
	connection, err := grpc.NewClient(
		asked.Address,
		grpc.WithTransportCredentials(trust),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(longest)),
	)
	must(err)
	defer connection.Close()
	outcomes := []outcome{}
	for _, one := range asked.Calls {
		outcomes = append(outcomes, repeated(connection, one))
	}
	must(json.NewEncoder(os.Stdout).Encode(outcomes))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func repeated(connection *grpc.ClientConn, call wanted) outcome {
	ends := time.Now().Add(time.Duration(call.Seconds) * time.Second)
	for {
		found := make(chan outcome)
		for range call.Times {
			go func() { found <- one(connection, call) }()
		}
		var last outcome
		for range call.Times {
			if ended := <-found; last.Code == 0 {
				last = ended
			}
		}
		if last.Code != 0 || !time.Now().Before(ends) {
			return last
		}
	}
}

func one(connection *grpc.ClientConn, call wanted) outcome {
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, pair := range call.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], decoded(pair))
	}
	if call.Timeout > 0 {
		timed, stop := context.WithTimeout(ctx, time.Duration(call.Timeout)*time.Millisecond)
		defer stop()
		ctx = timed
	}
	if call.Cancel > 0 {
		time.AfterFunc(time.Duration(call.Cancel)*time.Millisecond, cancel)
	}
	var trailing metadata.MD
	options := []grpc.CallOption{grpc.Trailer(&trailing)}
	if call.Compress {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	answers := [][]byte{}
	var err error
	if call.Stream {
		answers, err = several(ctx, cancel, connection, call, &trailing)
	} else {
		var answer []byte
		if err = connection.Invoke(ctx, call.Path, &call.Message, &answer, options...); err == nil {
			answers = append(answers, answer)
		}
	}
	return said(status.Convert(err), answers, trailing, began)
}

func several(
	ctx context.Context, cancel func(), connection *grpc.ClientConn, call wanted, trailing *metadata.MD,
) ([][]byte, error) {
	answers := [][]byte{}
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, call.Path)
	if err != nil {
		return answers, err
	}
	if err := stream.SendMsg(&call.Message); err != nil && err != io.EOF {
		return answers, err
	}
	if err := stream.CloseSend(); err != nil {
		return answers, err
	}
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			*trailing = stream.Trailer()
			if err == io.EOF {
				return answers, nil
			}
			return answers, err
		}
		answers = append(answers, answer)
		if len(answers) == call.Take {
			cancel()
		}
	}
}

func said(status *status.Status, answers [][]byte, trailing metadata.MD, began time.Time) outcome {
	pairs := []pair{}
	for name, values := range trailing {
		if !strings.HasPrefix(name, "x-") {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, pair{name, encoded(name, value)})
		}
	}
	var details []byte
	if len(status.Details()) > 0 {
		all, err := proto.Marshal(status.Proto())
		must(err)
		details = all
	}
	taken := float64(time.Since(began).Microseconds()) / 1000
	return outcome{uint32(status.Code()), status.Message(), answers, pairs, details, taken}
}

func decoded(pair pair) string {
	if !strings.HasSuffix(pair[0], "-bin") {
		return pair[1]
	}
	value, err := base64.StdEncoding.DecodeString(pair[1])
	must(err)
	return string(value)
}

func encoded(name, value string) string {
	if strings.HasSuffix(name, "-bin") {
		return base64.StdEncoding.EncodeToString([]byte(value))
	}
	return value
}
