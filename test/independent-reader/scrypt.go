package main

import (
	"encoding/binary"
	"math/bits"
)

const (
	scryptR     = 8
	scryptWords = 32 * scryptR
)

// scrypt of RFC 7914 with r = 8, to 32 bytes.
func scrypt(passphrase, salt []byte, n, p int) []byte {
	data := stretch(passphrase, salt, p*4*scryptWords)
	table := make([]uint32, n*scryptWords)
	for i := 0; i < p; i++ {
		block := data[i*4*scryptWords : (i+1)*4*scryptWords]
		var x [scryptWords]uint32
		for j := range x {
			x[j] = binary.LittleEndian.Uint32(block[4*j:])
		}
		for j := 0; j < n; j++ {
			copy(table[j*scryptWords:], x[:])
			blockMix(&x)
		}
		for j := 0; j < n; j++ {
			at := int(x[scryptWords-16]) & (n - 1)
			for k := range x {
				x[k] ^= table[at*scryptWords+k]
			}
			blockMix(&x)
		}
		for j := range x {
			binary.LittleEndian.PutUint32(block[4*j:], x[j])
		}
	}
	return stretch(passphrase, data, 32)
}

func blockMix(b *[scryptWords]uint32) {
	var y [scryptWords]uint32
	var x [16]uint32
	copy(x[:], b[scryptWords-16:])
	for i := 0; i < 2*scryptR; i++ {
		for j := range x {
			x[j] ^= b[16*i+j]
		}
		salsa8(&x)
		to := i / 2
		if i%2 == 1 {
			to += scryptR
		}
		copy(y[16*to:], x[:])
	}
	*b = y
}

var salsaRounds = [8][4]int{
	{0, 4, 8, 12}, {5, 9, 13, 1}, {10, 14, 2, 6}, {15, 3, 7, 11}, // columns
	{0, 1, 2, 3}, {5, 6, 7, 4}, {10, 11, 8, 9}, {15, 12, 13, 14}, // rows
}

func salsa8(b *[16]uint32) {
	x := *b
	for i := 0; i < 4; i++ {
		for _, q := range salsaRounds {
			x[q[1]] ^= bits.RotateLeft32(x[q[0]]+x[q[3]], 7)
			x[q[2]] ^= bits.RotateLeft32(x[q[1]]+x[q[0]], 9)
			x[q[3]] ^= bits.RotateLeft32(x[q[2]]+x[q[1]], 13)
			x[q[0]] ^= bits.RotateLeft32(x[q[3]]+x[q[2]], 18)
		}
	}
	for i := range b {
		b[i] += x[i]
	}
}
