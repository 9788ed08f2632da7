package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	codecNone, codecLZ4, codecZstd = 0, 1, 2
	tagLength                      = 16
)

// derive is HKDF(k, salt, info) of FORMAT.md §4.
func derive(key, salt []byte, info string) []byte {
	derived, err := hkdf.Key(sha256.New, key, salt, info, 32)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return derived
}

func authenticate(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

func aesGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a derived key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// decompress gives exactly length bytes or an error. LZ4 has its text length in front.
func decompress(codec byte, data []byte, length int) ([]byte, error) {
	var text []byte
	var err error
	switch codec {
	case codecNone:
		text = data
	case codecLZ4:
		if len(data) < 4 || int64(binary.LittleEndian.Uint32(data)) != int64(length) {
			return nil, fmt.Errorf("LZ4 text of another length than %d", length)
		}
		text = make([]byte, length)
		var n int
		n, err = lz4.UncompressBlock(data[4:], text)
		text = text[:max(n, 0)]
	case codecZstd:
		var header zstd.Header
		if err = header.Decode(data); err == nil && (!header.HasFCS || header.FrameContentSize != uint64(length)) {
			err = fmt.Errorf("zstd text of another length than %d", length)
		}
		if err == nil {
			text, err = unzstd.DecodeAll(data, make([]byte, 0, length))
		}
	default:
		err = fmt.Errorf("unknown codec %d", codec)
	}
	if err != nil {
		return nil, err
	}
	if len(text) != length {
		return nil, fmt.Errorf("a text of %d bytes instead of %d", len(text), length)
	}
	return text, nil
}

var unzstd = func() *zstd.Decoder {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxText))
	if err != nil {
		panic(err)
	}
	return decoder
}()

const (
	maxText        = 64 << 20
	documentHeader = 24
)

// openDocument opens a sealed document (§5) that lies at the object key `at`.
func (r *Repository) openDocument(at string, kind byte, key []byte) ([]byte, error) {
	data, err := r.read(at, documentHeader+maxText+tagLength)
	if err != nil {
		return nil, err
	}
	if len(data) < documentHeader+tagLength || !bytes.HasPrefix(data, []byte("TSD1")) || data[4] != kind || data[7] != 0 {
		return nil, fmt.Errorf("%s is damaged: its first bytes are not those of a document of kind %d", at, kind)
	}
	mode, codec, nonce := data[5], data[6], data[8:20]
	length := binary.LittleEndian.Uint32(data[20:])
	additional := append(bytes.Clone(data[:documentHeader]), at...)
	sealed := data[documentHeader:]
	var body []byte
	switch {
	case (mode == 1) != r.encrypted || mode > 1:
		return nil, fmt.Errorf("%s is refused: it is in mode %d, which is not the repository's", at, mode)
	case length > maxText || codec == codecLZ4:
		return nil, fmt.Errorf("%s is damaged: no document has such a length or codec", at)
	case mode == 1:
		if body, err = aesGCM(key).Open(nil, nonce, sealed, additional); err != nil {
			return nil, fmt.Errorf("%s is damaged: %w", at, err)
		}
	default:
		var tag []byte
		body, tag = sealed[:len(sealed)-tagLength], sealed[len(sealed)-tagLength:]
		if !hmac.Equal(authenticate(key, additional, body)[:tagLength], tag) {
			return nil, fmt.Errorf("%s is damaged: its checksum is wrong", at)
		}
	}
	text, err := decompress(codec, body, int(length))
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", at, err)
	}
	return text, nil
}
