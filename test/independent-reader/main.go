// A reader of Thinstream repositories that knows src/repository/format/FORMAT.md and nothing else: the proof that the page suffices.
//
//	reader [-key FILE | -passphrase FILE] DIRECTORY points                     one line of JSON for each point
//	reader [-key FILE | -passphrase FILE] DIRECTORY restore POINT DISK FILE    one disk, raw
//	reader [-key FILE | -passphrase FILE] DIRECTORY capture POINT NAME FILE
//	reader [-key FILE | -passphrase FILE] DIRECTORY check                      every frame of every pack, by the packs' tables
//
// It ends with 0, or says what is wrong and ends with 1. FILE must not be there yet, and is not there after an error.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	var with Credential
	flag.StringVar(&with.keyFile, "key", "", "the key file of an encrypted repository, or one that a slot is for")
	flag.StringVar(&with.passphraseFile, "passphrase", "", "a file with a passphrase that a slot is for")
	flag.Parse()
	if err := run(with, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func run(with Credential, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: reader [-key FILE | -passphrase FILE] DIRECTORY points | check | restore POINT DISK FILE | capture POINT NAME FILE")
	}
	repository, err := Open(args[0], with)
	if err != nil {
		return err
	}
	switch command := args[1]; {
	case command == "points" && len(args) == 2:
		return repository.printPoints()
	case command == "check" && len(args) == 2:
		return repository.check()
	case (command == "restore" || command == "capture") && len(args) == 5:
		point, err := repository.Point(args[2])
		if err != nil {
			return err
		}
		return writeNew(args[4], func(out *os.File) error {
			if command == "restore" {
				return repository.restore(point, args[3], out)
			}
			return repository.capture(point, args[3], out)
		})
	default:
		return fmt.Errorf("no such command, or not its arguments: %q", args[1:])
	}
}

func (r *Repository) printPoints() error {
	ids, err := r.Points()
	failed := err
	for _, id := range ids {
		point, err := r.Point(id)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		line := map[string]any{"id": id, "vm": point.VM.Name, "time": point.Time, "disks": names(point.Disks), "captures": names(point.Captures)}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			return err
		}
	}
	return failed
}

func (d Disk) name() string    { return d.Name }
func (c Capture) name() string { return c.Name }

func names[T interface{ name() string }](things []T) []string {
	all := []string{}
	for _, thing := range things {
		all = append(all, thing.name())
	}
	return all
}

func find[T interface{ name() string }](point *Point, things []T, name string) (T, error) {
	var found T
	for _, thing := range things {
		if thing.name() == name {
			return thing, nil
		}
	}
	return found, fmt.Errorf("point %s has no %q (it has %q)", point.ID, name, names(things))
}

func (r *Repository) restore(point *Point, name string, out *os.File) error {
	disk, err := find(point, point.Disks, name)
	if err != nil {
		return err
	}
	// What no granule is written to reads as zeros; the last one is cut at the end of the disk.
	if err := out.Truncate(disk.Size); err != nil {
		return err
	}
	return r.RestoreDisk(point.domain, disk, func(offset int64, granule []byte) error {
		_, err := out.WriteAt(granule[:min(granuleSize, disk.Size-offset)], offset)
		return err
	})
}

func (r *Repository) capture(point *Point, name string, out *os.File) error {
	capture, err := find(point, point.Captures, name)
	if err != nil {
		return err
	}
	return r.RestoreCapture(point.domain, capture, out)
}

func (r *Repository) check() error {
	packs, frames := 0, 0
	var failed error
	for _, domain := range r.domains {
		folders, err := r.list("packs/" + domain.name)
		if err != nil {
			return err
		}
		for _, folder := range folders {
			ids, err := r.list("packs/" + domain.name + "/" + folder)
			if err != nil {
				return err
			}
			for _, id := range ids {
				count, err := r.CheckPack(domain, id)
				failed = errors.Join(failed, err)
				packs, frames = packs+1, frames+count
			}
		}
	}
	fmt.Printf("{\"packs\":%d,\"frames\":%d}\n", packs, frames)
	return failed
}

// writeNew makes a file, which stays only when write succeeds.
func writeNew(path string, write func(*os.File) error) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(file), file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
