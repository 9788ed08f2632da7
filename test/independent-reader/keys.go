package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Credential is what the one who reads has: a key file or a passphrase file.
type Credential struct{ keyFile, passphraseFile string }

// repositoryKeys finds the keys that domain keys may be sealed under, the newest first and the repository's first key last (§4, §4.1, §4.2).
func (r *Repository) repositoryKeys(c config, with Credential) ([][]byte, error) {
	none := with.keyFile == "" && with.passphraseFile == ""
	switch {
	case c.Encryption.Mode == "none" && none:
		return [][]byte{make([]byte, 32)}, nil
	case c.Encryption.Mode == "none":
		return nil, errors.New("config: the repository is not encrypted, and a key was given: refused")
	case c.Encryption.Mode != "aes-256-gcm":
		return nil, fmt.Errorf("config: unknown encryption %q", c.Encryption.Mode)
	case none:
		return nil, errors.New("the repository is encrypted: give its key file with -key, or -passphrase")
	}
	r.encrypted = true
	rotations, err := r.rotations()
	if err != nil {
		return nil, err
	}
	ids := []string{c.Encryption.KeyID}
	for _, rotation := range rotations {
		ids = append(ids, rotation.text("keyId"))
	}
	key, err := r.unlock(with, ids)
	if err != nil {
		return nil, err
	}
	keys := [][]byte{key}
	for n := len(rotations); n > 0; n-- {
		secrets, err := rotations[n-1].open(keys[len(keys)-1], r.id, "thinstream/1/rotation", 96)
		if err != nil {
			return nil, err
		}
		if hex.EncodeToString(secrets[64:]) != c.MAC {
			return nil, errors.New("config was changed: it is not the one that the rotation of the key has seen")
		}
		keys = append(keys, secrets[32:64])
		if n == 1 && !bytes.Equal(secrets[:32], secrets[32:64]) {
			return nil, errors.New("rotations/0001 does not hold the first key")
		}
	}
	return keys, nil
}

// unlock gives the repository key of now. ids are those of all its keys, the newest last.
func (r *Repository) unlock(with Credential, ids []string) ([]byte, error) {
	now := ids[len(ids)-1]
	if with.keyFile == "" {
		return r.byPassphrase(with.passphraseFile, now)
	}
	given, err := readKeyFile(with.keyFile)
	if err != nil {
		return nil, err
	}
	id := r.keyID(given)
	if id == now {
		return given, nil
	}
	for _, before := range ids {
		if id == before {
			return nil, fmt.Errorf("%s is the repository's key from before it was replaced", with.keyFile)
		}
	}
	slot, err := r.sealed("slots/"+id, "thinstream-slot", 16<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is the key of another repository", with.keyFile)
	}
	if err != nil {
		return nil, err
	}
	if slot.text("opens") != now {
		return nil, fmt.Errorf("%s opened the repository before its key was replaced", with.keyFile)
	}
	return r.openSlot(slot, id, given)
}

func (r *Repository) byPassphrase(path, now string) ([]byte, error) {
	passphrase, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if text, found := bytes.CutSuffix(passphrase, []byte("\n")); found {
		passphrase = bytes.TrimSuffix(text, []byte("\r"))
	}
	ids, err := r.list("slots")
	if err != nil {
		return nil, err
	}
	var damaged error
	for _, id := range ids[:min(len(ids), 32)] {
		slot, err := r.sealed("slots/"+id, "thinstream-slot", 16<<10)
		if err != nil {
			damaged = errors.Join(damaged, err)
			continue
		}
		cost, _ := slot.body["scrypt"].(map[string]any)
		if slot.text("kind") != "passphrase" || slot.text("opens") != now {
			continue
		}
		logN, n, p := number(cost["logN"]), number(cost["r"]), number(cost["p"])
		salt, err := hex.DecodeString(fmt.Sprint(cost["salt"]))
		if err != nil || len(salt) != 32 || logN < 14 || logN > 18 || n != 8 || p < 1 || p > 4 {
			return nil, fmt.Errorf("slots/%s asks for a cost of scrypt that no slot has", id)
		}
		if wrapping := scrypt(passphrase, salt, 1<<logN, p); r.keyID(wrapping) == id {
			return r.openSlot(slot, id, wrapping)
		}
	}
	return nil, errors.Join(errors.New("the passphrase is wrong: it opens no slot"), damaged)
}

func (r *Repository) openSlot(slot sealedJSON, id string, wrapping []byte) ([]byte, error) {
	mac := slot.text("mac")
	delete(slot.body, "mac")
	text, err := canonical(slot.body)
	if err != nil {
		return nil, err
	}
	key, err := slot.open(wrapping, r.id, "thinstream/1/slot", 32)
	if err != nil {
		return nil, err
	}
	right := hex.EncodeToString(authenticate(derive(key, r.id, "thinstream/1/slot-mac"), text))
	if slot.text("id") != id || r.keyID(key) != slot.text("opens") || !hmac.Equal([]byte(right), []byte(mac)) {
		return nil, fmt.Errorf("%s was changed by somebody without the key", slot.at)
	}
	return key, nil
}

func (r *Repository) rotations() ([]sealedJSON, error) {
	var all []sealedJSON
	for n := 1; n <= 9999; n++ {
		rotation, err := r.sealed(fmt.Sprintf("rotations/%04d", n), "thinstream-rotation", 4096)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if number(rotation.body["number"]) != n {
			return nil, fmt.Errorf("%s is the rotation of another place", rotation.at)
		}
		all = append(all, rotation)
	}
	return all, nil
}

func (r *Repository) keyID(key []byte) string {
	return hex.EncodeToString(derive(key, r.id, "thinstream/1/key-id")[:8])
}

// sealedJSON is a slot or a rotation, whose sum was right; body is without it.
type sealedJSON struct {
	at   string
	body map[string]any
}

func (s sealedJSON) text(field string) string {
	text, _ := s.body[field].(string)
	return text
}

func number(value any) int {
	given, _ := value.(json.Number)
	n, err := given.Int64()
	if err != nil {
		return -1
	}
	return int(n)
}

func (r *Repository) sealed(at, format string, limit int64) (sealedJSON, error) {
	data, err := r.read(at, limit)
	if err != nil {
		return sealedJSON{}, err
	}
	body, err := parseObject(data)
	if err != nil {
		return sealedJSON{}, fmt.Errorf("%s is damaged: %w", at, err)
	}
	s := sealedJSON{at, body}
	given := s.text("sum")
	delete(body, "sum")
	text, err := canonical(body)
	if err != nil {
		return s, err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != given {
		return s, fmt.Errorf("%s is damaged: its sum is wrong", at)
	}
	if s.text("format") != format || number(body["version"]) != 1 || s.text("repository") != hex.EncodeToString(r.id) {
		return s, fmt.Errorf("%s: not a %s of version 1 of this repository", at, format)
	}
	return s, nil
}

// open opens `sealed`, a secret of so many bytes; the other fields are its additional data.
func (s sealedJSON) open(key, id []byte, info string, length int) ([]byte, error) {
	sealed, err := hex.DecodeString(s.text("sealed"))
	if err != nil || len(sealed) != 12+length+tagLength {
		return nil, fmt.Errorf("%s is damaged: what it seals has another length", s.at)
	}
	clear := map[string]any{}
	for name, value := range s.body {
		if name != "sealed" {
			clear[name] = value
		}
	}
	additional, err := canonical(clear)
	if err != nil {
		return nil, err
	}
	secret, err := aesGCM(derive(key, id, info)).Open(nil, sealed[:12], sealed[12:], additional)
	if err != nil {
		return nil, fmt.Errorf("%s was changed by somebody without the key", s.at)
	}
	return secret, nil
}

func parseObject(data []byte) (map[string]any, error) {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	err := decoder.Decode(&object)
	return object, err
}

// canonical is the JSON of §3: keys sorted, no white space, no more escapes than there must be.
func canonical(object map[string]any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text) // writes maps with their keys sorted
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(object)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

func readKeyFile(path string) ([]byte, error) {
	line, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(string(line))
	if len(words) != 3 || words[0] != "thinstream-key-1" {
		return nil, fmt.Errorf("%s is no key file", path)
	}
	key, err := hex.DecodeString(words[1])
	sum := sha256.Sum256(key)
	if err != nil || len(key) != 32 || words[2] != hex.EncodeToString(sum[:4]) {
		return nil, fmt.Errorf("%s is mistyped: its checksum is wrong", path)
	}
	return key, nil
}

// openOne opens one domain by a key file of its own (§4.3); false where that is not what was given.
func (r *Repository) openOne(c config, with Credential) (bool, error) {
	if with.keyFile == "" {
		return false, nil
	}
	line, err := os.ReadFile(with.keyFile)
	words := strings.Fields(string(line))
	if err != nil || len(words) != 5 || words[0] != "thinstream-domain-key-1" {
		return false, err
	}
	sum := sha256.Sum256([]byte(strings.Join(words[:4], " ")))
	key, err := hex.DecodeString(words[3])
	if err != nil || len(key) != 32 || words[4] != hex.EncodeToString(sum[:4]) {
		return false, fmt.Errorf("%s is mistyped: its checksum is wrong", with.keyFile)
	}
	if words[1] != hex.EncodeToString(r.id) || c.Encryption.Mode != "aes-256-gcm" {
		return false, fmt.Errorf("%s is the key of a domain of another repository", with.keyFile)
	}
	r.encrypted = true
	r.domains = []*Domain{r.domain(words[2], key)}
	if _, err := r.openDocument("domains/"+words[2], 11, r.domains[0].document); err != nil {
		return false, fmt.Errorf("%s is not the key of the domain, or that was destroyed: %w", with.keyFile, err)
	}
	return true, nil
}

func stretch(secret, salt []byte, length int) []byte {
	key, err := pbkdf2.Key(sha256.New, string(secret), salt, 1, length)
	if err != nil {
		panic(err) // as for HKDF
	}
	return key
}
