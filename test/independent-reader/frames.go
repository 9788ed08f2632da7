package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"lukechampine.com/blake3"
)

const (
	granuleSize, fanout                           = 65536, 32
	kindGranule, kindNode, kindCapture, kindTable = 1, 2, 3, 4
	maxPack, maxPiece                             = 64 << 20, 1 << 20
	packHeader, packTrailer, tableEntry           = 32, 56, 44
)

// Reference is everything needed to fetch, open and check a frame (§2).
type Reference struct {
	Pack       string `json:"pack"`
	Offset     uint32 `json:"offset"`
	Length     uint32 `json:"length"`
	Codec      byte   `json:"codec"`
	Hash       string `json:"hash"`
	TextLength int    `json:"textLength"` // of pieces of a capture alone
}

// fetch reads a frame, opens it and checks its hash.
func (r *Repository) fetch(d *Domain, ref Reference, kind byte) ([]byte, error) {
	id, err := hex.DecodeString(ref.Pack)
	hash, err2 := hex.DecodeString(ref.Hash)
	if err != nil || err2 != nil || len(id) != 16 || len(hash) != 32 {
		return nil, fmt.Errorf("a reference to pack %q is damaged", ref.Pack)
	}
	if uint64(ref.Offset)+uint64(ref.Length) > maxPack || ref.Length > maxPiece+tagLength {
		return nil, fmt.Errorf("pack %s: a frame of %d bytes at %d cannot be", ref.Pack, ref.Length, ref.Offset)
	}
	file, err := os.Open(filepath.Join(r.dir, "packs", d.name, ref.Pack[:2], ref.Pack))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stored := make([]byte, ref.Length)
	if _, err := file.ReadAt(stored, int64(ref.Offset)); err != nil {
		return nil, fmt.Errorf("pack %s is damaged at %d: %w", ref.Pack, ref.Offset, err)
	}
	text, err := r.open(d, id[:12], frame{kind, ref.Codec, ref.TextLength, hash}, stored)
	if err != nil {
		return nil, fmt.Errorf("pack %s is damaged at %d: %w", ref.Pack, ref.Offset, err)
	}
	return text, nil
}

type frame struct {
	kind, codec byte
	textLength  int // of a granule and of codec 0 it is known, whatever stands here
	hash        []byte
}

// open opens the stored bytes of a frame (§6) and checks that they are what the hash says.
func (r *Repository) open(d *Domain, run []byte, f frame, stored []byte) ([]byte, error) {
	length, err := r.textLength(f, len(stored))
	if err != nil {
		return nil, err
	}
	text := stored
	if r.encrypted {
		additional := binary.LittleEndian.AppendUint32([]byte{f.kind, f.codec, 0, 0}, uint32(length))
		if text, err = aesGCM(derive(d.key, run, "thinstream/1/seal")).Open(nil, nonce(f), stored, additional); err != nil {
			return nil, err
		}
	}
	if text, err = decompress(f.codec, text, length); err != nil {
		return nil, err
	}
	hasher := blake3.New(32, map[byte][]byte{kindGranule: d.granule, kindNode: d.node, kindCapture: d.captured, kindTable: d.node}[f.kind])
	hasher.Write(text)
	if !hmac.Equal(hasher.Sum(nil), f.hash) {
		return nil, errors.New("its hash is wrong")
	}
	return text, nil
}

func nonce(f frame) []byte {
	n := bytes.Clone(f.hash[:12])
	n[0] ^= f.codec
	return n
}

func (r *Repository) textLength(f frame, stored int) (int, error) {
	if r.encrypted {
		stored -= tagLength
	}
	length := f.textLength
	switch {
	case f.kind == kindGranule:
		length = granuleSize
	case f.codec == codecNone && length == 0:
		length = stored
	case f.codec != codecNone && f.kind != kindCapture:
		return 0, fmt.Errorf("codec %d for a frame of kind %d", f.codec, f.kind)
	}
	if stored < 0 || length < 0 || f.kind == kindCapture && length > maxPiece {
		return 0, errors.New("its length cannot be")
	}
	return length, nil
}

// span is how many granules a node of a level covers.
func span(level int) int64 { return int64(1) << (5 * (level + 1)) }

// RestoreDisk calls write with every granule that is not zeros, in order (§7).
func (r *Repository) RestoreDisk(d *Domain, disk Disk, write func(offset int64, granule []byte) error) error {
	granules := (disk.Size + granuleSize - 1) / granuleSize
	level := 0
	for span(level) < granules {
		level++
	}
	if disk.Root == nil {
		return nil
	}
	if disk.RootLevel != level {
		return fmt.Errorf("disk %s: a map of level %d for %d bytes", disk.Name, disk.RootLevel, disk.Size)
	}
	return r.walk(d, *disk.Root, level, 0, granules, write)
}

func (r *Repository) walk(d *Domain, ref Reference, level int, first, end int64, write func(int64, []byte) error) error {
	text, err := r.fetch(d, ref, kindNode)
	if err != nil {
		return err
	}
	children, err := parseNode(text, level)
	if err != nil {
		return fmt.Errorf("pack %s is damaged at %d: %w", ref.Pack, ref.Offset, err)
	}
	below := span(level) / fanout
	for i, child := range children {
		at := first + int64(i)*below
		switch {
		case child == nil:
		case at >= end:
			return fmt.Errorf("a map goes on beyond the end of its disk (pack %s at %d)", ref.Pack, ref.Offset)
		case level > 0:
			if err := r.walk(d, *child, level-1, at, end, write); err != nil {
				return err
			}
		default:
			granule, err := r.fetch(d, *child, kindGranule)
			if err != nil {
				return err
			}
			if err := write(at*granuleSize, granule); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseNode(text []byte, level int) (children [fanout]*Reference, err error) {
	damaged := errors.New("a map node that says what cannot be")
	if len(text) < 8 || int(text[0]) != level || text[2] != 0 || text[3] != 0 {
		return children, damaged
	}
	packs, present := int(text[1]), binary.LittleEndian.Uint32(text[4:])
	if present == 0 || len(text) != 8+16*packs+44*bits.OnesCount32(present) {
		return children, damaged
	}
	ids, entries := text[8:8+16*packs], text[8+16*packs:]
	distinct := map[string]bool{}
	for at := 0; at < len(ids); at += 16 {
		distinct[string(ids[at:at+16])] = true
	}
	if len(distinct) != packs {
		return children, damaged
	}
	used := 0
	for i := range fanout {
		if present>>i&1 == 0 {
			continue
		}
		entry := entries[:44]
		entries = entries[44:]
		pack := int(entry[0])
		if pack > used || pack >= packs || entry[2] != 0 || entry[3] != 0 {
			return children, damaged // pack ids stand in order of first use
		}
		used = max(used, pack+1)
		children[i] = &Reference{
			Pack: hex.EncodeToString(ids[16*pack : 16*pack+16]), Codec: entry[1],
			Offset: binary.LittleEndian.Uint32(entry[4:]), Length: binary.LittleEndian.Uint32(entry[8:]),
			Hash: hex.EncodeToString(entry[12:]),
		}
	}
	if used != packs {
		return children, damaged
	}
	return children, nil
}

// RestoreCapture writes a capture, piece by piece.
func (r *Repository) RestoreCapture(d *Domain, capture Capture, out io.Writer) error {
	var total int64
	for _, piece := range capture.Pieces {
		text, err := r.fetch(d, piece, kindCapture)
		if err != nil {
			return err
		}
		total += int64(len(text))
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	if total != capture.Size {
		return fmt.Errorf("capture %s: %d bytes instead of %d", capture.Name, total, capture.Size)
	}
	return nil
}

// CheckPack opens every frame of a pack by its table (§6), and gives their number.
func (r *Repository) CheckPack(d *Domain, id string) (int, error) {
	at := "packs/" + d.name + "/" + id[:2] + "/" + id
	data, err := r.read(at, maxPack)
	if err != nil {
		return 0, err
	}
	bare, err := hex.DecodeString(id)
	if err != nil || len(bare) != 16 || len(data) < packHeader+packTrailer ||
		!bytes.Equal(data[:packHeader], append(append([]byte("TSP1"), bare...), make([]byte, 12)...)) {
		return 0, fmt.Errorf("%s is damaged: its header is wrong", at)
	}
	trailer := data[len(data)-packTrailer:]
	number := func(at int) int { return int(binary.LittleEndian.Uint32(trailer[at:])) }
	offset, stored, count := number(32), number(36), number(40)
	if number(44) != len(data) || number(48) != 0 || string(trailer[52:]) != "TSPE" || offset+stored != len(data)-packTrailer || offset < packHeader {
		return 0, fmt.Errorf("%s is damaged: its trailer is wrong", at)
	}
	table, err := r.open(d, bare[:12], frame{kindTable, codecNone, 0, trailer[:32]}, data[offset:offset+stored])
	if err != nil {
		return 0, fmt.Errorf("%s is damaged: its table: %w", at, err)
	}
	if len(table) != tableEntry*count {
		return 0, fmt.Errorf("%s is damaged: a table of %d bytes for %d frames", at, len(table), count)
	}
	next := packHeader
	for ; len(table) > 0; table = table[tableEntry:] {
		from, length := int(binary.LittleEndian.Uint32(table)), int(binary.LittleEndian.Uint32(table[4:]))
		if from != next || from+length > offset {
			return 0, fmt.Errorf("%s is damaged: its frames do not lie back to back", at)
		}
		next += length
		f := frame{kind: table[8], codec: table[9], hash: table[12:tableEntry]}
		if f.kind == kindCapture && f.codec != codecNone {
			f.textLength = r.pieceLength(d, bare[:12], f, data[from:from+length])
		}
		if _, err := r.open(d, bare[:12], f, data[from:from+length]); err != nil {
			return 0, fmt.Errorf("%s is damaged at %d: %w", at, from, err)
		}
	}
	if next != offset {
		return 0, fmt.Errorf("%s is damaged: bytes that are of no frame", at)
	}
	return count, nil
}

// pieceLength reads a compressed piece's text length where it stands, at the head of the compressed text: the table does not tell
// it, and the tag cannot be checked without. What is read too early here is checked with the tag afterwards.
func (r *Repository) pieceLength(d *Domain, run []byte, f frame, stored []byte) int {
	head := bytes.Clone(stored)
	if r.encrypted {
		block, err := aes.NewCipher(derive(d.key, run, "thinstream/1/seal"))
		if err != nil {
			panic(err)
		}
		// GCM encrypts in counter mode from 2: 1 is for its tag.
		cipher.NewCTR(block, append(nonce(f), 0, 0, 0, 2)).XORKeyStream(head, head)
	}
	var header zstd.Header
	if f.codec == codecZstd && header.Decode(head) == nil {
		return int(min(header.FrameContentSize, maxPiece+1))
	}
	if f.codec == codecLZ4 && len(head) >= 4 {
		return int(binary.LittleEndian.Uint32(head))
	}
	return -1
}
