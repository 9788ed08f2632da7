package main

import (
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Repository is an opened repository below a directory.
type Repository struct {
	dir       string
	id        []byte
	encrypted bool
	domains   []*Domain
	destroyed map[string]string // names of domains that are no more, by the ids of their machines (§4.3)
	partial   bool              // opened by the key of one domain: other machines are none of our business
}

// Domain is what a domain key opens (§4).
type Domain struct {
	name                    string // the 8 hex digits
	key, document, nameKey  []byte
	granule, node, captured []byte // keys of the hashes
}

type config struct {
	Format     string   `json:"format"`
	Version    int      `json:"version"`
	Features   []string `json:"features"`
	ID         string   `json:"id"`
	Granule    int      `json:"granule"`
	Fanout     int      `json:"fanout"`
	Hash       string   `json:"hash"`
	Encryption struct {
		Mode  string `json:"mode"`
		KeyID string `json:"keyId"`
	} `json:"encryption"`
	MAC string `json:"mac"`
}

// read gives an object's bytes, of which there may be at most `limit`.
func (r *Repository) read(at string, limit int64) ([]byte, error) {
	file, err := os.Open(filepath.Join(r.dir, at))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is damaged: longer than %d bytes", at, limit)
	}
	return data, err
}

// Open reads `config` (§3) and every domain key. Without encryption nothing is given with it.
func Open(dir string, with Credential) (*Repository, error) {
	r := &Repository{dir: dir}
	data, err := r.read("config", 64<<10)
	if err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("config is damaged: %w", err)
	}
	if c.Format != "thinstream-repository" || c.Version != 1 || len(c.Features) > 0 {
		return nil, fmt.Errorf("config: format %q, version %d, features %q: this reader knows version 1 without features", c.Format, c.Version, c.Features)
	}
	if c.Granule != granuleSize || c.Fanout != fanout || c.Hash != "blake3-256-keyed" {
		return nil, fmt.Errorf("config: granule %d, fanout %d or hash %q is not version 1's", c.Granule, c.Fanout, c.Hash)
	}
	if r.id, err = hex.DecodeString(c.ID); err != nil || len(r.id) != 16 {
		return nil, fmt.Errorf("config is damaged: the id %q", c.ID)
	}
	if r.partial, err = r.openOne(c, with); err != nil || r.partial {
		return r, err
	}
	keys, err := r.repositoryKeys(c, with)
	if err != nil {
		return nil, err
	}
	if err := checkMAC(data, c.MAC, derive(keys[len(keys)-1], r.id, "thinstream/1/config")); err != nil {
		return nil, err
	}
	return r, r.openDomains(keys)
}

// checkMAC covers every field there is, those this reader does not know as well.
func checkMAC(data []byte, wanted string, key []byte) error {
	object, err := parseObject(data)
	if err != nil {
		return err
	}
	delete(object, "mac")
	text, err := canonical(object)
	if err != nil {
		return err
	}
	mac := authenticate(key, text)
	if !hmac.Equal([]byte(hex.EncodeToString(mac)), []byte(wanted)) {
		return errors.New("config is damaged or was changed: its mac is wrong")
	}
	return nil
}

// openDomains tries the newest key first: a rotation may have left a domain key under an earlier one.
func (r *Repository) openDomains(keys [][]byte) error {
	if !r.encrypted {
		r.domains = []*Domain{r.domain(hex.EncodeToString(derive(keys[0], r.id, "thinstream/1/domain/default")[:4]), keys[0])}
		return nil
	}
	names, err := r.list("keys")
	if err != nil {
		return err
	}
	if err := r.readTombstones(names, keys); err != nil {
		return err
	}
	for _, name := range names {
		wrapped, err := r.openDomainKey("keys/"+name, keys)
		if err != nil {
			return err
		}
		r.domains = append(r.domains, r.domain(name, wrapped))
	}
	return nil
}

// readTombstones finds out whose machines nobody can read any more: those of domains that have a tombstone and no key.
func (r *Repository) readTombstones(domains []string, keys [][]byte) error {
	names, err := r.list("destroyed")
	if err != nil {
		return err
	}
	r.destroyed = map[string]string{}
	for _, name := range names {
		text, err := r.openUnder(keys, "destroyed/"+name, 12)
		if err != nil || slices.Contains(domains, name) {
			continue // who has not the repository's key destroys nothing; and a domain is whole as long as its key is there
		}
		var tombstone struct {
			Name     string   `json:"name"`
			Machines []string `json:"machines"`
		}
		if err := json.Unmarshal(text, &tombstone); err != nil {
			return fmt.Errorf("destroyed/%s is damaged: %w", name, err)
		}
		for _, machine := range tombstone.Machines {
			r.destroyed[machine] = tombstone.Name
		}
	}
	return nil
}

func (r *Repository) openUnder(keys [][]byte, at string, kind byte) (text []byte, err error) {
	for _, key := range keys {
		if text, err = r.openDocument(at, kind, derive(key, r.id, "thinstream/1/document")); err == nil {
			break
		}
	}
	return text, err
}

func (r *Repository) openDomainKey(at string, keys [][]byte) (wrapped []byte, err error) {
	wrapped, err = r.openUnder(keys, at, 1)
	if err == nil && len(wrapped) != 32 {
		err = fmt.Errorf("%s is damaged: %d bytes of key", at, len(wrapped))
	}
	return wrapped, err
}

func (r *Repository) domain(name string, key []byte) *Domain {
	of := func(info string) []byte { return derive(key, r.id, "thinstream/1/"+info) }
	return &Domain{name, key, of("document"), of("name"), of("hash/granule"), of("hash/node"), of("hash/capture")}
}

// list gives the names in a folder, in order; a folder that is not there has none.
func (r *Repository) list(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}

// Point is what §8 says, as far as a restore needs it.
type Point struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Seq     int    `json:"seq"`
	Time    string `json:"time"`
	VM      struct {
		Name string `json:"name"`
	} `json:"vm"`
	Disks    []Disk    `json:"disks"`
	Captures []Capture `json:"captures"`
	domain   *Domain
}

// Disk is one disk of a point.
type Disk struct {
	Name      string     `json:"name"`
	Size      int64      `json:"size"`
	Root      *Reference `json:"root"`
	RootLevel int        `json:"rootLevel"`
}

// Capture is a small file kept with a point.
type Capture struct {
	Name   string      `json:"name"`
	Size   int64       `json:"size"`
	Pieces []Reference `json:"pieces"`
}

var pointID = regexp.MustCompile(`^([0-9a-f]{12})-([1-9][0-9]{0,9})$`)

// Point reads one by its id. It does not say its domain: the one whose key opens it is.
func (r *Repository) Point(id string) (*Point, error) {
	parts := pointID.FindStringSubmatch(id)
	if parts == nil {
		return nil, fmt.Errorf("%q is no point's id", id)
	}
	at := fmt.Sprintf("points/%s/%010s", parts[1], parts[2])
	if name, is := r.destroyed[parts[1]]; is {
		return nil, fmt.Errorf("%s is of the domain %q, which was destroyed", at, name)
	}
	failed := fmt.Errorf("%s: there is no domain key", at)
	for _, domain := range r.domains {
		text, err := r.openDocument(at, 2, domain.document)
		if err != nil {
			failed = err
			continue
		}
		point := Point{domain: domain}
		if err := json.Unmarshal(text, &point); err != nil || point.Version != 1 || point.ID != id {
			return nil, fmt.Errorf("%s is not the point %s of version 1 (%w)", at, id, err)
		}
		if hex.EncodeToString(authenticate(domain.nameKey, []byte(point.VM.Name))[:6]) != parts[1] {
			return nil, fmt.Errorf("%s is of a machine %q that does not belong there", at, point.VM.Name)
		}
		return &point, nil
	}
	return nil, failed
}

// Points gives the ids of the points that are not forgotten, oldest first for each machine.
func (r *Repository) Points() ([]string, error) {
	machines, err := r.list("points")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, machine := range machines {
		if _, is := r.destroyed[machine]; is || (r.partial && !r.owns(machine)) {
			continue
		}
		forgotten, err := r.list("forgotten/" + machine)
		if err != nil {
			return nil, err
		}
		there, err := r.list("points/" + machine)
		if err != nil {
			return nil, err
		}
		hidden := " " + strings.Join(forgotten, " ") + " "
		for _, seq := range there {
			if !strings.Contains(hidden, " "+seq+" ") {
				ids = append(ids, machine+"-"+strings.TrimLeft(seq, "0"))
			}
		}
	}
	return ids, nil
}

// owns says whether the one domain that was opened is this machine's: its key opens the head, or a point.
func (r *Repository) owns(machine string) bool {
	if _, err := r.openDocument("heads/"+machine, 3, r.domains[0].document); err == nil {
		return true
	}
	points, _ := r.list("points/" + machine)
	return slices.ContainsFunc(points, func(seq string) bool {
		_, err := r.openDocument("points/"+machine+"/"+seq, 2, r.domains[0].document)
		return err == nil
	})
}
