import { Command, InvalidArgumentError, Option } from "commander";

import { parseBytes } from "../lib/bytes.ts";
import { errorText } from "../lib/errors.ts";
import { backup, type BackupFlags } from "./commands/backup.ts";
import { check } from "./commands/check.ts";
import { forget, type ForgetFlags } from "./commands/forget.ts";
import { init, type InitFlags } from "./commands/init.ts";
import { points, type PointsFlags, show, type ShowFlags } from "./commands/points.ts";
import { restore, type RestoreFlags } from "./commands/restore.ts";
import type { Context, Outcome, RepositoryFlags } from "./context.ts";

type Work<F> = (flags: F, context: Context) => Promise<Outcome>;

/** The command line: every command and its flags. `done` takes what the chosen command leaves. */
export function program(context: Context, done: (outcome: Outcome) => void): Command {
  const root = new Command("thinstream");
  root
    .description("Incremental-forever, chainless backup of virtual machines into object storage.")
    .version(context.version)
    .exitOverride()
    // What is wrong with a command line is said by the one who catches it.
    .configureOutput({ outputError: () => undefined });
  const add = <F>(name: string, description: string, work: Work<F>): Command => {
    const command = root.command(name).description(description).allowExcessArguments(false).exitOverride();
    command.requiredOption("--repo <url>", "file:///path or s3://bucket/prefix?endpoint=http://host:port&region=us-east-1");
    command.option("--key-file <file>", "the repository's key; else THINSTREAM_KEY_FILE");
    command.option("--json", "one JSON document on standard output");
    return command.action(async (...args: unknown[]) => done(await work(flagsOf(args) as F, context)));
  };
  add<InitFlags>("init", "make an empty repository", init).option("--no-encryption", "store everything in the clear");
  addBackup(add);
  add<PointsFlags>("points", "list the restore points, oldest first", points).option("--vm <name>", "only this machine's");
  add<ShowFlags>("show", "show one restore point", show).argument("<point>", "its id");
  addRestore(add);
  add<RepositoryFlags>("check", "read everything and say what is missing or damaged", check);
  add<ForgetFlags>("forget", "take restore points off the list", forget).requiredOption("--point <id...>", "ids");
  return root;
}

type Add = <F>(name: string, description: string, work: Work<F>) => Command;

function addBackup(add: Add): void {
  add<BackupFlags>("backup", "take a restore point of a machine", backup)
    .option("--connect <uri>", "libvirt, e.g. qemu:///system")
    .option("--domain <name>", "libvirt domain")
    .option("--image <[disk=]path...>", "a stopped disk without libvirt: qcow2 or raw file, or block device")
    .addOption(
      new Option("--image-format <format>", "of --image; say raw where a guest you do not trust wrote its first bytes").choices([
        "qcow2",
        "raw",
      ]),
    )
    .option("--vm <name>", "name in the repository; default: the domain's, or the image's file name")
    .addOption(
      new Option("--level <level>", "how much is read").choices(["auto", "full", "incremental", "differential", "copy"]).default("auto"),
    )
    .option("--since <point>", "point that an incremental or differential is taken against; default: the newest")
    .option("--disk <name...>", "only these disks")
    .option("--exclude-disk <name...>", "not these disks")
    .addOption(
      new Option("--quiesce <when>", "freeze the guest's file systems for the instant")
        .choices(["auto", "required", "never"])
        .default("auto"),
    )
    .option("--freeze-mountpoint <path...>", "freeze only these mount points")
    .option("--scratch-dir <dir>", "where QEMU keeps what the guest overwrites meanwhile; default: /var/tmp")
    .addOption(new Option("--compression <codec>", "of new data").choices(["lz4", "zstd", "none"]).default("lz4"))
    .option("--estimate", "only say what would be read")
    .option("--threshold <bytes>", "store nothing when less than this changed", size);
}

function addRestore(add: Add): void {
  add<RestoreFlags>("restore", "write the disks of a restore point out", restore)
    .requiredOption("--point <id>", "its id, or latest")
    .option("--vm <name>", "with latest: of this machine")
    .option("--output <dir>", "directory for DISK.FORMAT; made where missing")
    .addOption(new Option("--format <format>", "of the files").choices(["raw", "qcow2"]).default("raw"))
    .option("--disk <name...>", "only these disks")
    .option("--target <disk=path...>", "an existing file or block device to overwrite")
    .option("--force", "restore what is whole of a damaged point; lost ranges become zeros and are listed; exit code 1")
    .option("--define", "define the machine in libvirt, as a copy: new UUID, MACs and paths")
    .option("--connect <uri>", "with --define: libvirt")
    .option("--name <name>", "with --define: the copy's name; default: the machine's with -restored");
}

/** Commander hands over positional arguments, then flags, then the command. A positional becomes the flag `point`. */
function flagsOf(args: readonly unknown[]): unknown {
  const flags = args.at(-2) as object;
  const positional = args.slice(0, -2);
  return positional.length === 0 ? flags : { ...flags, point: positional[0] };
}

function size(text: string): number {
  try {
    return parseBytes(text);
  } catch (thrown) {
    throw new InvalidArgumentError(errorText(thrown));
  }
}
