// Verifies what Strongroom's audit log publishes with Go's own packages for transparency logs, which the Go checksum
// database is built on: golang.org/x/mod/sumdb/tlog and note.
//
//	tlog KEY FOLDER [OLDER]        every entry and tile of an exported log, and an older checkpoint
//	tlog KEY proof FILE            a C2SP tlog-proof whose extra data is the entry
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// folder reads tiles from files laid out as C2SP tlog-tiles has it.
type folder string

func (f folder) Height() int { return height }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := f.read(strconv.Itoa(tile.L), tile.N, tile.W)
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %v is short", tile)
		}
		all = append(all, data[:tile.W*tlog.HashSize])
	}
	return all, nil
}

func (f folder) read(level string, number int64, width int) ([]byte, error) {
	path := fmt.Sprintf("%03d", number%1000)
	for number >= 1000 {
		number /= 1000
		path = fmt.Sprintf("x%03d/%s", number%1000, path)
	}
	full := filepath.Join(string(f), "tile", level, path)
	if width < 1<<height {
		if data, err := os.ReadFile(filepath.Join(full+".p", strconv.Itoa(width))); err == nil {
			return data, nil
		}
	}
	return os.ReadFile(full)
}

func openCheckpoint(message []byte, key string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func verifyFolder(key string, directory string, older string) error {
	message, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(message, key)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tree, folder(directory))
	for first := int64(0); first < tree.N; first += 1 << height {
		width := int(tree.N - first)
		if width > 1<<height {
			width = 1 << height
		}
		bundle, err := folder(directory).read("entries", first>>height, width)
		if err != nil {
			return err
		}
		for index := first; index < first+int64(width); index++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("entry %d is cut off", index)
			}
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2:length]
			bundle = bundle[length:]
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			if err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
		}
	}
	if older != "" {
		message, err := os.ReadFile(older)
		if err != nil {
			return err
		}
		before, err := openCheckpoint(message, key)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, before.N, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return err
		}
	}
	fmt.Printf("verified %d entries\n", tree.N)
	return nil
}

func verifyProof(key string, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof with its entry")
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := openCheckpoint(checkpoint, key)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
		return err
	}
	fmt.Printf("verified entry %d of %d\n", index, tree.N)
	return nil
}

func main() {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[2] == "proof":
		err = verifyProof(os.Args[1], os.Args[3])
	case len(os.Args) == 4:
		err = verifyFolder(os.Args[1], os.Args[2], os.Args[3])
	case len(os.Args) == 3:
		err = verifyFolder(os.Args[1], os.Args[2], "")
	default:
		err = errors.New("usage: tlog KEY FOLDER [OLDER] | tlog KEY proof FILE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
